"""The events of a dataset: what happened when, in which episode."""

from pathlib import Path
from typing import Any, NamedTuple

from mscore_plugin_minestudio.storage.layout import (
    CODEBOOK_KEY,
    EVENT_EPISODES_FIELD,
    EVENT_INFO_KEY,
    EVENT_ITEMS_FIELD,
    DatasetError,
    event_key,
)
from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader
from mscore_plugin_minestudio.storage.parts import whole_number


class EventInfo(NamedTuple):
    """How often an event happened.

    Attributes:
        items: times, in all episodes together.
        episodes: episodes in which it happened.
    """

    items: int
    episodes: int


class EventItem(NamedTuple):
    """One time that an event happened.

    Attributes:
        episode: the episode's name.
        time: the frame.
        value: how many of it, such as blocks mined.
    """

    episode: str
    time: int
    value: Any


class EventStore:
    """The events of one dataset. It may be sent to other processes.

    Args:
        path: the folder ``event`` of the dataset.

    Attributes:
        infos: an event's name to how often it happened, in the file's order.

    Raises:
        DatasetError: the folder holds no events, or they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._reader = LmdbReader(path)
        self.file = self._reader.file
        self.infos = self._read_infos()
        self._episodes = self._read_codebook()

    @property
    def names(self) -> list[str]:
        """The events' names, in the file's order."""
        return list(self.infos)

    def items(self, event: str) -> list[EventItem]:
        """All times of an event, by episode and time as the file has them.

        Args:
            event: one of ``names``.

        Raises:
            DatasetError: one of them is missing or cannot be read.
        """
        return [self._item(event_key(event, number)) for number in range(self.infos[event].items)]

    def _item(self, key: bytes) -> EventItem:
        item = self._reader.load(key)
        match item:
            case (str() as code, time, value) if (frame := whole_number(time)) is not None and frame >= 0:
                pass
            case _:
                raise DatasetError(f"{item!r:.80}; expected (episode, time, value)", file=self.file, key=key)
        if self._episodes is None:
            return EventItem(code, frame, value)
        if code not in self._episodes:
            raise DatasetError(f"the code {code!r:.40} stands for no episode", file=self.file, key=key)
        return EventItem(self._episodes[code], frame, value)

    def _read_infos(self) -> dict[str, EventInfo]:
        infos = self._reader.load(EVENT_INFO_KEY)
        if type(infos) is not dict:
            raise DatasetError("expected a dict of events", file=self.file, key=EVENT_INFO_KEY)
        found = {}
        for name, info in infos.items():
            items, episodes = (
                whole_number(info.get(field)) if type(info) is dict else None
                for field in (EVENT_ITEMS_FIELD, EVENT_EPISODES_FIELD)
            )
            if type(name) is not str or items is None or episodes is None or items < 0:
                text = f"event {name!r:.80} without {EVENT_ITEMS_FIELD} and {EVENT_EPISODES_FIELD}"
                raise DatasetError(text, file=self.file, key=EVENT_INFO_KEY)
            found[name] = EventInfo(items, episodes)
        return found

    def _read_codebook(self) -> dict[str, str] | None:
        """Code to episode; None where items name their episodes."""
        if self._reader.get(CODEBOOK_KEY) is None:
            return None
        codes = self._reader.load(CODEBOOK_KEY)
        if type(codes) is not dict or any(type(text) is not str for text in [*codes, *codes.values()]):
            raise DatasetError("expected a dict of episodes to codes", file=self.file, key=CODEBOOK_KEY)
        return {code: episode for episode, code in codes.items()}

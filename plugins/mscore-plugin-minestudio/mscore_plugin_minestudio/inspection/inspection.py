"""Looking into a dataset: what it holds, and what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mscore_plugin_minestudio.inspection.chunk_checks import CHECKS, ActionCheck
from mscore_plugin_minestudio.jobs import Advance, progress_bar
from mscore_plugin_minestudio.storage.event_store import EventInfo, EventStore
from mscore_plugin_minestudio.storage.layout import (
    DATA_FILE,
    EVENT_FOLDER,
    FRAMES_FIELD,
    MODALITY_FOLDERS,
    NUM_EPISODES_KEY,
    TOTAL_FRAMES_KEY,
    DatasetError,
    modality_of,
)
from mscore_plugin_minestudio.storage.modality import ModalityStore, find_parts
from mscore_plugin_minestudio.storage.parts import Part, whole_number
from mscore_plugin_minestudio.storage.store import Episode, LeftOut, check_dataset, join

MOST_CHUNKS = {"image": 500, "action": 20_000, "meta_info": 2_000, "segmentation": 1_000}
"""Chunks of a modality that are read, spread evenly, unless all are: each takes a few seconds."""


@dataclass(frozen=True)
class ModalityReport:
    """What one modality holds.

    Attributes:
        parts: parts that can be read.
        episodes: their episodes that can be read.
        frames: the frames of these.
        bytes: of the files of all parts.
        chunks: the chunks of the episodes.
        checked: chunks that were read.
        content: what the chunks that were read hold, as plain data.
    """

    parts: int
    episodes: int
    frames: int
    bytes: int
    chunks: int
    checked: int
    content: dict[str, Any]


@dataclass(frozen=True)
class Inspection:
    """What a dataset holds, and what is wrong with it.

    Attributes:
        dataset: its folder.
        episodes: those that every modality holds with as many frames, sorted by name.
        left_out: the others, sorted by name.
        modalities: name to what it holds.
        events: name to how often it happened.
        actions: frames counted and the counts (:mod:`~mscore_plugin_minestudio.inspection.action_statistics`);
            None without any.
        problems: what is wrong, with its place.
    """

    dataset: Path
    episodes: list[Episode]
    left_out: list[LeftOut]
    modalities: dict[str, ModalityReport]
    events: dict[str, EventInfo]
    actions: dict[str, Any] | None
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        """All of it as data that JSON can hold."""
        lengths = [episode.frames for episode in self.episodes]
        return {
            "dataset": str(self.dataset),
            "episodes": len(lengths),
            "frames": sum(lengths),
            "episode_frames": {"min": min(lengths), "median": median(lengths), "max": max(lengths)}
            if lengths
            else None,
            "left_out": [asdict(left_out) for left_out in self.left_out],
            "modalities": {name: asdict(report) for name, report in self.modalities.items()},
            "events": {name: info._asdict() for name, info in self.events.items()},
            "actions": self.actions,
            "problems": self.problems,
        }


def inspect(dataset: Path, every_chunk: bool = False) -> Inspection:
    """Look into a dataset, and read chunks of all its modalities.

    Args:
        dataset: its folder.
        every_chunk: read all chunks, rather than at most ``MOST_CHUNKS``, spread evenly.

    Raises:
        DatasetError: the folder is missing, or no dataset. Whatever else is wrong is among the ``problems``.
    """
    check_dataset(dataset)
    problems: list[DatasetError] = []
    stores = {name: _open(dataset, name, problems) for name in MODALITY_FOLDERS if _has(dataset, name)}
    episodes, left_out = join(stores)
    chosen = {name: _choose(store, None if every_chunk else MOST_CHUNKS[name]) for name, store in stores.items()}
    reports, actions = {}, None
    with progress_bar("Reading", sum(len(places) for places in chosen.values())) as advance:
        for name, store in stores.items():
            check = CHECKS[name](store)
            problems += _read(check.read, chosen[name], advance)
            reports[name] = _report(dataset, name, store, len(chosen[name]), check.content())
            if isinstance(check, ActionCheck) and check.statistics is not None:
                actions = {"frames": check.statistics.frames, **check.statistics.summary()}
    lengths = {name: record.frames for store in stores.values() for name, record in store.episodes.items()}
    events = _events(dataset, lengths, problems)
    return Inspection(dataset, episodes, left_out, reports, events, actions, [str(problem) for problem in problems])


def _has(dataset: Path, modality: str) -> bool:
    return any(entry.is_dir() and modality_of(entry.name) == modality for entry in dataset.iterdir())


def _open(dataset: Path, modality: str, problems: list[DatasetError]) -> ModalityStore:
    parts, strays = find_parts(dataset, modality)
    store = ModalityStore(modality, parts, on_error="skip")
    problems += [*strays, *store.problems]
    for part in store.parts:
        problems += _miscounts(part)
    problems += [
        DatasetError(f"{modality} of it is in several parts; the last one's is read", file=dataset, episode=name)
        for name in store.repeated
    ]
    return store


def _miscounts(part: Part) -> Iterator[DatasetError]:
    """Totals of a part that its list of episodes contradicts; reading does without them."""
    infos = [info for info in part.infos() if isinstance(info, dict)]
    frames = [whole_number(info.get(FRAMES_FIELD)) or 0 for info in infos]
    for key, expected in ((NUM_EPISODES_KEY, len(infos)), (TOTAL_FRAMES_KEY, sum(frames))):
        try:
            stated = part.load(key)
        except DatasetError as problem:
            yield problem
            continue
        if whole_number(stated) != expected:
            yield DatasetError(f"{stated!r:.40}; its episodes make {expected}", file=part.file, key=key)


def _choose(store: ModalityStore, most: int | None) -> list[tuple[str, int]]:
    places = [
        (name, start)
        for name, record in store.episodes.items()
        for start in range(0, record.frames, store.chunk_frames)
    ]
    if most is None or len(places) <= most:
        return places
    return [places[number * (len(places) - 1) // (most - 1)] for number in range(most)]


def _read(read: Callable[[str, int], None], places: list[tuple[str, int]], advance: Advance) -> Iterator[DatasetError]:
    for episode, start in places:
        try:
            read(episode, start)
        except DatasetError as problem:
            yield problem
        advance(1)


def _report(
    dataset: Path, modality: str, store: ModalityStore, checked: int, content: dict[str, Any]
) -> ModalityReport:
    records = store.episodes.values()
    files = [
        file
        for entry in dataset.iterdir()
        if modality_of(entry.name) == modality
        for file in entry.glob(f"*/{DATA_FILE}")
    ]
    return ModalityReport(
        parts=len(store.parts),
        episodes=len(records),
        frames=sum(record.frames for record in records),
        bytes=sum(file.stat().st_size for file in files),
        chunks=sum(-(-record.frames // store.chunk_frames) for record in records),
        checked=checked,
        content=content,
    )


def _events(dataset: Path, lengths: Mapping[str, int], problems: list[DatasetError]) -> dict[str, EventInfo]:
    folder = dataset / EVENT_FOLDER
    if not folder.is_dir():
        return {}
    try:
        store = EventStore(folder)
    except DatasetError as problem:
        problems.append(problem)
        return {}
    for event in store.names:
        try:
            items = store.items(event)
        except DatasetError as problem:
            problems.append(problem)
            continue
        beyond = [item for item in items if item.time >= lengths.get(item.episode, item.time + 1)]
        if beyond:
            text = (
                f"event {event!r}: {len(beyond)} of {len(items)} behind the end of their episode, such as {beyond[0]}"
            )
            problems.append(DatasetError(text, file=store.file))
    return store.infos

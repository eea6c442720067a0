"""Writing a dataset's index of events."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from mscore import MscoreError
from mscore_plugin_minestudio.storage.layout import (
    CODEBOOK_KEY,
    EVENT_EPISODES_FIELD,
    EVENT_FOLDER,
    EVENT_INFO_KEY,
    EVENT_ITEMS_FIELD,
    NUM_EVENTS_KEY,
    event_key,
)
from mscore_plugin_minestudio.storage.payloads import dump_payload
from mscore_plugin_minestudio.writing.part import MAP_SIZE
from mscore_plugin_minestudio.writing.writer import DRAFT_SUFFIX

Occurrence = tuple[str, str, int, Any]
"""Event, episode, the frame in which it is seen, and its value (how often it happened)."""


def write_events(root: str | Path, items: Iterable[Occurrence]) -> dict[str, int]:
    """Write the index of events of a dataset, replacing the one that is there.

    Args:
        root: the dataset's folder.
        items: what happened, in any order.

    Returns:
        Event to its number of items. Without any item nothing is written.

    Raises:
        MscoreError: the disk is full, or what else keeps it from being written.
    """
    events: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for event, episode, time, value in sorted(items, key=lambda item: (item[1], item[2])):
        events.setdefault(event, {}).setdefault(episode, []).append((time, value))
    if not events:
        return {}
    folder = Path(root) / EVENT_FOLDER
    draft = Path(tempfile.mkdtemp(prefix=f".{EVENT_FOLDER}.", suffix=DRAFT_SUFFIX, dir=root))
    try:
        draft.chmod(0o755)
        _write(draft, events)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(draft, folder)
    except (lmdb.Error, OSError) as error:
        raise MscoreError(f"{folder} cannot be written ({error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {event: _items(episodes) for event, episodes in events.items()}


def _write(folder: Path, events: Mapping[str, Mapping[str, Sequence[tuple[int, Any]]]]) -> None:
    codes: dict[str, str] = {}
    infos = {
        event: {EVENT_EPISODES_FIELD: len(episodes), EVENT_ITEMS_FIELD: _items(episodes)}
        for event, episodes in events.items()
    }
    with (
        lmdb.open(str(folder), map_size=MAP_SIZE, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for event, episodes in events.items():
            number = 0
            for episode, occurrences in episodes.items():
                code = codes.setdefault(episode, str(len(codes)))
                for time, value in occurrences:
                    transaction.put(event_key(event, number), dump_payload((code, time, value)))
                    number += 1
        transaction.put(NUM_EVENTS_KEY, dump_payload(len(events)))
        transaction.put(EVENT_INFO_KEY, dump_payload(infos))
        transaction.put(CODEBOOK_KEY, dump_payload(codes))


def _items(episodes: Mapping[str, Sequence[Any]]) -> int:
    return sum(map(len, episodes.values()))

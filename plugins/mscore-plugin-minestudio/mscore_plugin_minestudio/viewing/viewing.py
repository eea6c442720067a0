"""A film of an episode: its frames with what the dataset knows of them drawn on."""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minestudio.frames.encoding import FPS
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.jobs import progress_bar
from mscore_plugin_minestudio.modalities.actions import ActionReader
from mscore_plugin_minestudio.modalities.events import short_name
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader
from mscore_plugin_minestudio.modalities.segmentation import decode_mask
from mscore_plugin_minestudio.storage.event_store import EventStore
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES, EVENT_FOLDER
from mscore_plugin_minestudio.storage.modality import ModalityStore, find_parts
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.viewing.drawing import (
    Interaction,
    Picture,
    canvas_for,
    draw_action,
    draw_interactions,
    draw_texts,
)

EVENT_FRAMES = FPS
"""Frames for which an event is shown."""


@dataclass(frozen=True)
class Film:
    """A film that was written.

    Attributes:
        frames: its frames.
        drawn: what is drawn on them.
        missing: what is not, and why.
    """

    frames: int
    drawn: list[str]
    missing: dict[str, str]


def view(dataset: Path, episode: str, out: Path, *, start: int = 0, frames: int | None = None) -> Film:
    """Write a film of an episode.

    Args:
        dataset: the dataset's folder.
        episode: the episode's name.
        out: the MP4 file to write; it appears when it is whole.
        start: first frame.
        frames: how many; None to the end.

    Raises:
        DatasetError: the dataset or the episode cannot be read.
        MscoreError: there is no such episode, or no such frame in it.
    """
    content = _Episode(dataset, episode)
    if not 0 <= start < content.frames:
        raise MscoreError(f"frame {start}: episode {episode!r} has frames 0 to {content.frames - 1}")
    stop = content.frames if frames is None else min(start + frames, content.frames)
    draft = out.with_name(f".{out.name}.draft")
    try:
        with av.open(str(draft), "w", format="mp4") as container, progress_bar("Drawing", stop - start) as advance:
            stream: Any = None
            for canvas in content.draw(start, stop):
                if stream is None:
                    stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast"})
                    stream.height, stream.width = canvas.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.bit_rate = 0
                container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
                advance(1)
            container.mux(stream.encode())
        draft.replace(out)
    except OSError as error:
        raise MscoreError(f"{out} cannot be written ({error})") from error
    finally:
        draft.unlink(missing_ok=True)
    return Film(stop - start, content.drawn, content.missing)


class _Episode:
    """An episode of a dataset, with the modalities that have it."""

    def __init__(self, dataset: Path, name: str) -> None:
        self.name = name
        self.missing: dict[str, str] = {}
        # Other episodes' faults are no reason not to look at this one.
        images = open_catalog([dataset], ["image"], on_error="skip").stores["image"]
        _refuse_unknown(images, name)
        images.episodes = {name: images.episodes[name]}
        self.frames = images.episodes[name].frames
        self._size = ImageReader(images, 1, 1).stored_size
        self._images = ImageReader(images, *self._size)
        stores = {modality: self._find(dataset, modality) for modality in ("action", "meta_info", "segmentation")}
        action, meta_info, self._segmentation = stores["action"], stores["meta_info"], stores["segmentation"]
        self._actions = ActionReader(action) if action else None
        self._infos = MetaInfoReader(meta_info) if meta_info else None
        self._events = self._find_events(dataset)

    @property
    def drawn(self) -> list[str]:
        """What is drawn."""
        return [what for what in ("action", "segmentation", "events") if what not in self.missing]

    def draw(self, start: int, stop: int) -> Iterator[Picture]:
        """The frames of a range, drawn."""
        shown: dict[str, int] = {}
        for first in range(start, stop, CHUNK_FRAMES):
            numbers = np.arange(first, min(first + CHUNK_FRAMES, stop))
            pictures = np.empty((len(numbers), self._size[1], self._size[0], 3), np.uint8)
            self._images.read_into([(self.name, numbers, pictures)])
            actions = self._actions.read(self.name, numbers) if self._actions else None
            infos = self._read_infos(numbers)
            interactions = self._read_interactions(numbers)
            for place, number in enumerate(numbers.tolist()):
                events = infos[place].get("events", {}) if self._events is None else self._events[number]
                shown.update({f"{short_name(event)} x{count}": number for event, count in events.items()})
                canvas, picture = canvas_for(pictures[place])
                if actions is not None:
                    draw_action(canvas, picture.shape[1], {key: array[place] for key, array in actions.items()})
                draw_interactions(picture, interactions[place])
                recent = [text for text, seen in shown.items() if number - seen < EVENT_FRAMES]
                draw_texts(canvas, picture.shape[0], [f"{number} / {self.frames}  {self.name}", "  ".join(recent)])
                yield canvas

    def _find(self, dataset: Path, modality: str) -> ModalityStore | None:
        """A modality's chunks of this episode; None, with a reason, if it cannot be drawn."""
        parts, _ = find_parts(dataset, modality)
        store = ModalityStore(modality, parts, "skip")
        record = store.episodes.get(self.name)
        problem = next((problem for problem in store.problems if problem.episode == self.name), None)
        if record is not None and record.frames == self.frames:
            store.episodes = {self.name: record}
            return store
        if record is not None:
            self.missing[modality] = f"{record.frames} frames, but {self.frames} pictures"
        else:
            self.missing[modality] = str(problem) if problem else "the dataset has none of this episode"
        return None

    def _find_events(self, dataset: Path) -> Mapping[int, Mapping[str, Any]] | None:
        """What happened in which frame; None if the meta information of each frame says it."""
        if any("events" in info for info in self._read_infos(np.arange(1))):
            return None
        events: dict[int, dict[str, Any]] = defaultdict(dict)
        if (dataset / EVENT_FOLDER).is_dir():
            store = EventStore(dataset / EVENT_FOLDER)
            for name in store.names:
                for item in store.items(name):
                    if item.episode == self.name:
                        events[item.time][name] = item.value
        else:
            self.missing["events"] = "neither meta_info nor an index of events has them"
        return events

    def _read_infos(self, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
        return self._infos.read(self.name, numbers) if self._infos else [{}] * len(numbers)

    def _read_interactions(self, numbers: NDArray[np.int64]) -> list[list[Interaction]]:
        """The interactions of each frame."""
        store = self._segmentation
        if store is None:
            return [[]] * len(numbers)
        found: list[list[Interaction]] = []
        for span in store.spans(numbers):
            chunk: Any = store.load_chunk(self.name, span.start)
            try:
                found += [[_interaction(entry) for entry in chunk[frame].values()] for frame in span.inside.tolist()]
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                text = f"it is not what segmentation should be: {error!r:.120}"
                raise store.error(self.name, span.start, text) from error
        return found


def _interaction(entry: Mapping[str, Any]) -> Interaction:
    point = entry["point"]
    place = None if point is None else (int(point[0]), int(point[1]))
    return Interaction(int(entry["obj_id"]), str(entry["event"]), decode_mask(entry["rle_mask"]), place)


def _refuse_unknown(images: ModalityStore, name: str) -> None:
    if name in images.episodes:
        return
    for problem in images.problems:
        if problem.episode == name:
            raise problem
    near = difflib.get_close_matches(name, images.episodes) or sorted(images.episodes)[:3]
    raise MscoreError(f"there is no episode {name!r}; there are {', '.join(map(repr, near))} and others")

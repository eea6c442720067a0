"""Converting recordings in the form of OpenAI's VPT."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.conversion.conversion import OnError, Source, Written
from mscore_plugin_minestudio.conversion.recorded_actions import read_rows
from mscore_plugin_minestudio.conversion.recorded_video import check_video, read_frames
from mscore_plugin_minestudio.conversion.recordings import Omission, RecordedEpisode, Recording, find_episodes
from mscore_plugin_minestudio.jobs import Advance
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES, DatasetError
from mscore_plugin_minestudio.writing.writer import STORED_SIZE, DatasetWriter, EpisodeWriter


@dataclass(frozen=True)
class VptRecordings(Source):
    """A folder of recordings, ``<name>.mp4`` with ``<name>.jsonl``.

    They are read by the rules of VPT's own loader (see :mod:`~mscore_plugin_minestudio.conversion.recorded_actions`),
    and joined into episodes by MineStudio's (see :mod:`~mscore_plugin_minestudio.conversion.recordings`).

    Args:
        folder: where they are, at any depth.
        keep_noops: keep the frames in which nothing is done; VPT trains without them.
    """

    folder: Path
    keep_noops: bool = False

    kind = "vpt"
    stored_size = STORED_SIZE

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {"source": str(self.folder.resolve()), "keep_noops": self.keep_noops}

    def plan(self) -> tuple[dict[str, RecordedEpisode], list[Omission]]:  # noqa: D102
        episodes, omissions = find_episodes(self.folder)
        return {episode.name: episode for episode in episodes}, omissions

    def write(
        self, name: str, episode: RecordedEpisode, writer: DatasetWriter, on_error: OnError, advance: Advance
    ) -> Written:
        """Write an episode; a recording that cannot be read to its end ends it, and the next begins another."""
        result = Written()
        recordings = deque(episode.recordings)
        share = 1 / len(recordings)
        while recordings:
            with writer.episode(recordings[0].episode) as target:
                while recordings:
                    recording = recordings.popleft()
                    begun = target.frames
                    try:
                        self._write_recording(recording, target, result, lambda done: advance(done * share))
                    except DatasetError as error:
                        if on_error == "raise":
                            raise
                        stored = target.frames - begun
                        rest = f"; the {stored} frames before it are kept" if stored else ""
                        result.omissions.append(Omission(str(error.file), f"{error.problem}{rest}"))
                        break
        return result

    def _write_recording(self, recording: Recording, target: EpisodeWriter, result: Written, advance: Advance) -> None:
        rows = read_rows(recording.actions)
        check_video(recording.video, len(rows))
        keep = np.ones(len(rows), dtype=np.bool_) if self.keep_noops else rows.acts
        kept = rows.kept(keep)
        result.dropped["in which nothing is done"] += len(rows) - len(kept)
        done = 0
        for pictures in _blocks(read_frames(recording.video, rows.meta_info, keep)):
            block = slice(done, done + len(pictures))
            infos = kept.meta_info[block]
            result.occurrences += [
                (event, target.name, target.frames + number, count)
                for number, info in enumerate(infos)
                for event, count in info["events"].items()
            ]
            actions = {key: array[block] for key, array in kept.action.items()}
            target.extend(image=np.stack(pictures), action=actions, meta_info=infos)
            done = block.stop
            advance(len(pictures) / len(kept))


def _blocks(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    """Chunks of pictures; those that came before an error too."""
    block: list[NDArray[np.uint8]] = []
    try:
        for picture in pictures:
            block.append(picture)
            if len(block) == CHUNK_FRAMES:
                yield block
                block = []
    except DatasetError:
        if block:
            yield block
        raise
    if block:
        yield block

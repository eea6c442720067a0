"""Recordings in the form of OpenAI's VPT, and which of them make up an episode.

A recording is a video ``<name>.mp4`` and what was done in it, ``<name>.jsonl``. A player's recordings of five
minutes each are joined into one episode as long as they follow each other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mscore import MscoreError

_NAME = re.compile(r"(?P<session>.*?)-(?P<part>\d+)", re.DOTALL)
_CLOCK = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d)")

JOIN_SECONDS = 600
"""A recording that begins later than this after the one before begins an episode."""

JOIN_NUMBERS = 1000
"""The same for recordings that are numbered instead of named by the time."""


@dataclass(frozen=True)
class Recording:
    """A video and its actions.

    Attributes:
        session: the name without what tells a session's recordings apart.
        part: the time of day (HHMMSS) or number that does; ``"0"`` if the name ends in none.
        video: the MP4 file.
        actions: the JSON-lines file.
    """

    session: str
    part: str
    video: Path
    actions: Path

    @property
    def episode(self) -> str:
        """Name of the episode that begins with this recording."""
        return f"{self.session}-{self.part}"


@dataclass(frozen=True)
class Omission:
    """Something of the source that is not in the result.

    Attributes:
        what: a recording or an episode, or a part of one.
        reason: why it is left out.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class RecordedEpisode:
    """Recordings that follow each other."""

    recordings: tuple[Recording, ...]

    @property
    def name(self) -> str:
        """The episode's name."""
        return self.recordings[0].episode


def find_episodes(source: Path) -> tuple[list[RecordedEpisode], list[Omission]]:
    """Look for recordings in a folder and everything below it.

    The actions may lie in another folder than the video (``video/a.mp4``, ``jsonl/a.jsonl``); the names tell
    which belong together.

    Returns:
        The episodes in the order of their names, and the videos that are none of them, with the reason.

    Raises:
        MscoreError: there is no such folder, or no video in it.
    """
    if not source.is_dir():
        raise MscoreError(f"{source}: no such folder; expected the folder of the recordings")
    videos = sorted(source.rglob("*.mp4"))
    if not videos:
        raise MscoreError(f"{source}: no video in it (*.mp4); expected recordings, <name>.mp4 with <name>.jsonl")
    actions: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*.jsonl")):
        actions.setdefault(path.stem, []).append(path)
    sessions: dict[str, list[Recording]] = {}
    left_out, seen = [], set[str]()
    for video in videos:
        name, own = video.stem, actions.get(video.stem, [])
        beside = [path for path in own if path.parent == video.parent]
        own = beside or own
        match = _NAME.fullmatch(name)
        session, part = (match["session"], match["part"]) if match else (name, "0")
        recording = f"{session}-{int(part)}"
        if recording in seen:
            left_out.append(Omission(str(video), "another video has this name; expected different names"))
        elif len(own) != 1:
            found = f"{len(own)} files {name}.jsonl" if own else f"no file {name}.jsonl"
            left_out.append(Omission(str(video), f"{found}; expected one, with its actions"))
        else:
            sessions.setdefault(session, []).append(Recording(session, part, video, own[0]))
        seen.add(recording)
    episodes = [episode for recordings in sessions.values() for episode in _join(recordings)]
    return sorted(episodes, key=lambda episode: episode.name), left_out


def _join(recordings: Sequence[Recording]) -> Iterator[RecordedEpisode]:
    ordered = sorted(recordings, key=lambda recording: int(recording.part))
    joined = ordered[:1]
    for before, recording in pairwise(ordered):
        if _follows(before.part, recording.part):
            joined.append(recording)
        else:
            yield RecordedEpisode(tuple(joined))
            joined = [recording]
    yield RecordedEpisode(tuple(joined))


def _follows(before: str, part: str) -> bool:
    clocks = [_CLOCK.fullmatch(text) for text in (before, part)]
    if all(clocks):
        seconds = [int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3]) for clock in clocks if clock]
        return seconds[1] - seconds[0] < JOIN_SECONDS
    return int(part) - int(before) < JOIN_NUMBERS

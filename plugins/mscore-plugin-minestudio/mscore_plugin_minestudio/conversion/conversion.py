"""Converting a source of episodes into a dataset: in parallel, part by part, and on from where it was stopped."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mscore import MscoreError
from mscore_plugin_minestudio.conversion.recordings import Omission
from mscore_plugin_minestudio.conversion.state import ConversionState
from mscore_plugin_minestudio.jobs import Advance, progress_bar, run_jobs
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES
from mscore_plugin_minestudio.writing.events import Occurrence, write_events
from mscore_plugin_minestudio.writing.writer import DatasetWriter

PARTS = 32
"""A dataset gets so many parts, if it has as many episodes: a kill loses the unfinished ones, and readers open each."""

PARTS_A_WORKER = 4
"""At least, so that no worker waits long for the last."""

OnError = Literal["skip", "raise"]


@dataclass
class Written:
    """What became of one or more episodes of a source.

    Attributes:
        episodes: stored episodes.
        frames: stored frames.
        dropped: why frames were dropped to how many.
        omissions: what could not be converted.
        occurrences: of events; frames are counted in the stored episode.
    """

    episodes: int = 0
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    omissions: list[Omission] = field(default_factory=list)
    occurrences: list[Occurrence] = field(default_factory=list)

    def add(self, other: "Written") -> None:
        """Take another account in."""
        self.episodes += other.episodes
        self.frames += other.frames
        self.dropped.update(other.dropped)
        self.omissions += other.omissions
        self.occurrences += other.occurrences

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "episodes": self.episodes,
            "frames": self.frames,
            "dropped": dict(self.dropped),
            "omissions": [asdict(omission) for omission in self.omissions],
            "occurrences": self.occurrences,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Written":
        """From what :meth:`to_json` gives, through JSON or not."""
        return cls(
            episodes=data["episodes"],
            frames=data["frames"],
            dropped=Counter(data["dropped"]),
            omissions=[Omission(**omission) for omission in data["omissions"]],
            occurrences=[(event, episode, frame, count) for event, episode, frame, count in data["occurrences"]],
        )


class Source(ABC):
    """Where episodes come from. It is pickled on its way to the worker processes."""

    kind: str
    """What ``--from`` calls it."""

    stored_size: tuple[int, int] | None
    """Width and height of the frames unless ``--size`` says otherwise; None stores them as they are."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The source and every choice that changes what is written, as plain data by option."""

    @abstractmethod
    def plan(self) -> tuple[dict[str, Any], list[Omission]]:
        """The episodes in the order in which they are stored: name to what :meth:`write` needs to know.

        Beside them what is no episode; with the reason.
        """

    @abstractmethod
    def write(self, name: str, episode: Any, writer: DatasetWriter, on_error: OnError, advance: Advance) -> Written:
        """Write one planned episode, or what of it can be read.

        Args:
            name: the episode's.
            episode: what :meth:`plan` says of it.
            writer: of the part.
            on_error: whether what cannot be read is left out, or raised.
            advance: to be called with parts of the episode that are done, 1 altogether.

        Raises:
            DatasetError: something cannot be read, and ``on_error`` is "raise".
        """


@dataclass(frozen=True)
class Storage:
    """How episodes are stored.

    Attributes:
        image_size: width and height of the frames; None stores them as they are.
        keep_tail: whether the frames after an episode's last whole chunk are stored too.
    """

    image_size: tuple[int, int] | None
    keep_tail: bool = False


@dataclass(frozen=True)
class Report:
    """A finished conversion.

    Attributes:
        written: what became of the source; without the occurrences.
        events: event to the number of its occurrences.
        was_finished: whether it was finished before.
    """

    written: Written
    events: dict[str, int]
    was_finished: bool


def convert(source: Source, root: Path, storage: Storage, *, workers: int = 1, on_error: OnError = "skip") -> Report:
    """Convert a source into a dataset, or finish a conversion that was stopped.

    Finished parts are never done again. The result does not depend on whether it was stopped, nor, but for what
    is in which part, on the number of workers.

    Args:
        source: the episodes.
        root: the dataset's folder: new, empty, or of the same conversion.
        storage: how to store them.
        workers: processes.
        on_error: whether what cannot be read is left out and reported, or stops the conversion.

    Raises:
        MscoreError: the folder holds something else, or another conversion; or nothing could be converted.
        DatasetError: something cannot be read, and ``on_error`` is "raise".
    """
    identity = {"from": source.kind, **source.identity(), **asdict(storage)}
    with ConversionState(root, identity) as state:
        plan, omissions = source.plan()
        if omissions and on_error == "raise":
            raise MscoreError(f"{omissions[0].what}: {omissions[0].reason}")
        if (result := state.result(list(plan))) is not None:
            return Report(Written.from_json(result["written"]), result["events"], was_finished=True)
        parts = state.parts(lambda: _divide(list(plan), workers), list(plan))
        with progress_bar(f"Converting to {root.name}", len(plan)) as advance:
            jobs = []
            for part, names in parts.items():
                if state.part_result(part) is not None:
                    advance(len(names))
                else:
                    episodes = {name: plan[name] for name in names}
                    jobs.append(_PartJob(source, root, part, episodes, storage, on_error))
            for part, written in run_jobs(_write_part, jobs, workers, advance):
                state.finish_part(part, written.to_json())
        total = Written(omissions=omissions)
        for part in parts:
            total.add(Written.from_json(state.part_result(part) or {}))
        if not total.episodes:
            reasons = "\n".join(f"  {omission.what}: {omission.reason}" for omission in total.omissions[:5])
            state.give_up()
            raise MscoreError(f"nothing of the source could be converted:\n{reasons}")
        events = write_events(root, total.occurrences)
        total.occurrences = []
        state.finish({"written": total.to_json(), "events": events}, list(plan))
        return Report(total, events, was_finished=False)


@dataclass(frozen=True)
class _PartJob:
    source: Source
    root: Path
    part: str
    episodes: dict[str, Any]
    storage: Storage
    on_error: OnError


def _write_part(job: _PartJob, advance: Advance) -> tuple[str, Written]:
    total = Written()
    storage = job.storage
    with DatasetWriter(job.root, job.part, image_size=storage.image_size, keep_tail=storage.keep_tail) as writer:
        for name, episode in job.episodes.items():
            total.add(job.source.write(name, episode, writer, job.on_error, advance))
    for written in writer.episodes:
        if written.frames:
            total.episodes += 1
            total.frames += written.frames
            total.dropped["after the last whole chunk"] += written.dropped
        elif written.dropped:
            reason = f"{written.dropped} frames, less than a chunk of {CHUNK_FRAMES}"
            total.omissions.append(Omission(written.name, reason))
    stored = {written.name: written.frames for written in writer.episodes}
    total.occurrences = [item for item in total.occurrences if item[2] < stored[item[1]]]
    return job.part, total


def _divide(names: Sequence[str], workers: int) -> dict[str, list[str]]:
    """Part to episodes, named as MineStudio names parts: by the number of their last episode."""
    size = -(-len(names) // max(PARTS, PARTS_A_WORKER * workers))
    groups = [list(names[first : first + size]) for first in range(0, len(names), size)]
    return {f"part-{min((number + 1) * size, len(names))}": group for number, group in enumerate(groups)}

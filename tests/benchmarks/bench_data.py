"""What reading MineStudio's datasets costs, beside MineStudio's own reader on the same files.

Run ``python tests/benchmarks/bench_data.py [--quick] [--rounds 3]``. The first run makes the datasets (20 episodes
of 1200 frames, twice) and an environment with MineStudio, in the folder that ``MSCORE_CACHE`` names, else in
``~/.cache/mscore``; that takes several minutes, the benchmark itself about ten. Ratios are medians over rounds in
which the two take turns. CPU time is that of reading windows of 128 frames into tensors, on one core, of all threads
of the process; frames a second are those of the loaders, batches of 4, in the time that the wall's clock shows.
"""

import argparse
import math
import os
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmark_worker import Worker
from moving_scenes import datasets
from peer_minestudio import environment

HERE = Path(__file__).parent
ROWS = 4
CPU_FRAMES = 2048


@dataclass
class Case:
    """A row of the table.

    Attributes:
        name: what is read.
        dataset: name of the dataset that the peer reads.
        size: side of the frames that come out.
        cpu: our CPU time, at most so many times the peer's.
        rate: our frames a second with two workers, at least so many times the peer's.
        window: frames of a window.
        form: the form of the dataset that we read, where it is a transcoded one.
        found: what was measured, by name.
    """

    name: str
    dataset: str
    size: int
    cpu: float
    rate: float | None = None
    window: int = 128
    form: str | None = None
    found: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.found[name])

    def ratio(self, name: str, of: str) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.found[name], self.found[of], strict=True))


CASES = [
    Case("stored 224 px, read at 128", "224", 128, cpu=0.85, rate=1.5),
    Case("stored 640x360, read at 128", "360", 128, cpu=0.80, rate=1.7),
    Case("stored 640x360, read at 224", "360", 224, cpu=0.75, rate=2.0),
    Case("224 px, windows of 16", "224", 128, cpu=0.5, window=16),
    Case("640x360, windows of 16", "360", 128, cpu=0.5, window=16),
    Case("224 px as video of 128", "224", 128, cpu=0.15, form="video"),
    Case("640x360 as video of 128", "360", 128, cpu=0.15, form="video"),
    Case("224 px as JPEG of 128", "224", 128, cpu=math.inf, form="jpeg"),
    Case("640x360 as JPEG of 128", "360", 128, cpu=math.inf, form="jpeg"),
    Case("224 px as raw of 128", "224", 128, cpu=0.02, form="raw"),
    Case("640x360 as raw of 128", "360", 128, cpu=0.02, form="raw"),
]


def windows(frames: int, window: int) -> list[list[int]]:
    """Batches of windows that follow each other in the first four episodes, numbered as both readers do."""
    per_episode = -(-frames // window)
    count = min(frames // window, CPU_FRAMES // (ROWS * window))
    return [[episode * per_episode + number for episode in range(ROWS)] for number in range(count)]


class Round:
    """One round of measurements; what several rows are compared with is measured once.

    Args:
        us: our process.
        peer: the peer's.
        paths: name to folder of the datasets.
        frames: of each episode.
    """

    def __init__(self, us: Worker, peer: Worker, paths: dict[str, Path], frames: int) -> None:
        self._us = us
        self._peer = peer
        self._paths = paths
        self._frames = frames
        self._peers: dict[tuple[str, int, int], dict] = {}
        self._floors: dict[str, float] = {}

    def cpu(self, case: Case) -> None:
        """CPU time, ours, the peer's and the floor."""
        request = {"size": case.size, "window": case.window, "batches": windows(self._frames, case.window)}
        key = (case.dataset, case.size, case.window)
        if key not in self._peers:
            self._peers[key] = self._peer.ask("cpu", dataset=str(self._paths[case.dataset]), **request)
        if case.dataset not in self._floors:
            answer = self._us.ask("floor", dataset=str(self._paths[case.dataset]), frames=min(self._frames, 1024))
            self._floors[case.dataset] = answer["milliseconds"]
        name = f"{case.dataset}-{case.form}" if case.form else case.dataset
        ours = self._us.ask("cpu", dataset=str(self._paths[name]), **request)
        case.note("ours", ours["milliseconds"])
        case.note("peer", self._peers[key]["milliseconds"])
        case.note("floor", self._floors[case.dataset])
        if not case.form and ours["images"] != self._peers[key]["images"]:
            raise SystemExit(f"{case.name}: the images differ from the peer's")

    def wall(self, case: Case, workers: int, batches: int) -> None:
        """What the two loaders give, and the CPU time of all their processes."""
        dataset = str(self._paths[case.dataset])
        for name, worker in (("peer", self._peer), ("ours", self._us)):
            answer = worker.ask("wall", dataset=dataset, size=case.size, window=128, workers=workers, batches=batches)
            case.note(f"{name} {workers}", answer["frames_a_second"])
            case.note(f"{name} cpu {workers}", answer["milliseconds"])


def show(cases: list[Case]) -> None:
    """Print the table."""
    print(f"\n{'':30}{'CPU time, ours/peer':>26}{'floor/peer':>12}{'ms: floor':>12}{'ours':>7}{'peer':>7}")
    for case in cases:
        ratio = case.ratio("ours", "peer")
        bound = "" if case.cpu == math.inf else f"(at most {case.cpu:.2f}{'' if ratio <= case.cpu else ', MISSED'})"
        print(
            f"{case.name:30}{ratio:9.3f} {bound:16}{case.ratio('floor', 'peer'):12.2f}"
            f"{case.median('floor'):12.3f}{case.median('ours'):7.3f}{case.median('peer'):7.3f}"
        )
    print(f"\n{'':30}{'frames a second, ours/peer: 2 workers':>40}{'0 workers':>12}{'CPU time of both':>20}")
    for case in cases:
        if case.rate is not None:
            ratio = case.ratio("ours 2", "peer 2")
            bound = f"(at least {case.rate:.1f}{'' if ratio >= case.rate else ', MISSED'})"
            print(
                f"{case.name:30}{ratio:18.2f} {bound:21}{case.ratio('ours 0', 'peer 0'):12.2f}"
                f"{case.ratio('ours cpu 2', 'peer cpu 2'):14.2f}{case.ratio('ours cpu 0', 'peer cpu 0'):6.2f}"
            )


def main() -> None:
    """Make what is needed, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 episodes of 384 frames, one round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    episodes, frames, rounds, batches = (8, 384, 1, 4) if options.quick else (20, 1200, options.rounds, 30)
    cache = Path(os.environ.get("MSCORE_CACHE") or "~/.cache/mscore").expanduser() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    python = environment(cache)
    paths = datasets(cache, episodes, frames)
    stored_frames = frames // 32 * 32

    us = Worker(sys.executable, HERE / "our_minestudio.py", cache / "ours.log")
    peer = Worker(python, HERE / "peer_minestudio.py", cache / "peer.log")
    try:
        print(f"{episodes} episodes of {stored_frames} frames, {rounds} rounds")
        for dataset in ("224", "360"):
            for form in ("video", "jpeg", "raw"):
                to = paths[f"{dataset}-{form}"] = paths[dataset].with_name(f"{dataset}-{form}")
                shutil.rmtree(to, ignore_errors=True)
                size = us.ask("make", dataset=str(paths[dataset]), form=form, to=str(to))
                print(f"disk, {dataset} as {form} of 128 / as it was: {size['after'] / size['before']:.2f}")
        for number in range(rounds):
            turn = Round(us, peer, paths, stored_frames)
            for case in CASES:
                turn.cpu(case)
                if case.rate is not None:
                    for workers in (2,) if number else (2, 0):
                        turn.wall(case, workers, batches)
        show(CASES)
        print("\nimages of the untouched datasets are equal to the peer's, bit for bit")
        growth = us.ask("memory", dataset=str(paths["224"]), size=128, window=128)["megabytes"]
        print(f"memory, from a quarter of an epoch to its end: {growth:+.1f} MB")
    finally:
        us.stop()
        peer.stop()


if __name__ == "__main__":
    main()

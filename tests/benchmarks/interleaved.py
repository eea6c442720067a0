"""Contestants in processes of their own, measured in turn, so that what else the machine does hits all alike.

A contestant is a command that reads the name of a case from its standard input, runs the case once, and
prints ``{"cpu": seconds, "wall": seconds}``; :func:`serve` is the loop. It has one thread, unless it says
otherwise, and its lines begin with a mark, as libraries print what they like.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "contestant: "
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class Times:
    """Medians of one case of one contestant, in seconds."""

    cpu: float
    wall: float


class Contestant:
    """A process that runs cases when told to.

    Args:
        command: starts it.
        name: for messages.
    """

    def __init__(self, command: Sequence[str | Path], name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def wait_until_ready(self) -> None:
        """Wait until it has built what it needs."""
        self._answer()

    def run(self, case: str) -> Times:
        """Run a case once."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        return Times(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return line.removeprefix(MARK)
        sys.exit(f"{self.name} ended with {self.process.wait()}; what it said is above")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def race(
    contestants: Mapping[str, Contestant], cases: Mapping[str, int], warm_up: int = 2
) -> dict[str, dict[str, Times]]:
    """Run cases in turn.

    Args:
        contestants: by name.
        cases: name of a case to the number of its rounds.
        warm_up: rounds that do not count.

    Returns:
        Case to contestant to medians.
    """
    results: dict[str, dict[str, Times]] = {}
    for case, rounds in cases.items():
        seen: dict[str, list[Times]] = {name: [] for name in contestants}
        for number in range(warm_up + rounds):
            for name, contestant in contestants.items():
                times = contestant.run(case)
                if number >= warm_up:
                    seen[name].append(times)
        results[case] = {
            name: Times(statistics.median(one.cpu for one in times), statistics.median(one.wall for one in times))
            for name, times in seen.items()
        }
    return results


def serve(cases: Mapping[str, tuple[Callable[[], object], int]]) -> None:
    """The contestant's side: run the cases that are asked for, each as many times as is given, and report means."""
    print(f"{MARK}ready", flush=True)
    for line in sys.stdin:
        function, repeats = cases[line.strip()]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            function()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(MARK + json.dumps({"cpu": cpu / repeats, "wall": wall / repeats}), flush=True)

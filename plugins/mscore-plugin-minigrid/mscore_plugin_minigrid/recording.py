"""Recording in several processes, with a progress bar."""

import json
import math
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mscore import MscoreError
from mscore_plugin_minigrid.environment import MiniGridEnvironment

LEAST_SHARE_SOLVED = 0.1
"""Recording stops if the expert solves fewer of the levels than this."""


def play_in_processes(
    environment: MiniGridEnvironment, seeds: np.ndarray, episodes: int, processes: int, folder: Path
) -> list[Mapping[str, np.ndarray]]:
    """Play levels until enough of them are solved.

    Args:
        environment: the environment; its expert plays.
        seeds: of the levels, played from the first on.
        episodes: how many must be solved.
        processes: recording processes.
        folder: where the processes leave their parts; they are gone afterwards.

    Returns:
        The processes' parts, as :func:`mscore_plugin_minigrid.recorder.write_part` writes them, with at
        least ``episodes`` episodes together.

    Raises:
        MscoreError: a process failed, or the expert solves next to none of the levels.
    """
    parts: list[Mapping[str, np.ndarray]] = []
    solved = played = 0
    with _progress() as progress:
        task = progress.add_task(f"Recording {environment.env}", total=episodes)
        while solved < episodes:
            missing = episodes - solved
            # As many seeds more as the share of failures so far asks for.
            count = missing if not played else math.ceil(missing * played / max(solved, 1))
            batch = seeds[played : played + count]
            if not len(batch) or (played >= 20 and solved < LEAST_SHARE_SOLVED * played):
                raise MscoreError(
                    f"the expert bot solved {solved} of {played} levels of {environment.env!r}; "
                    "it cannot give demonstrations of this environment"
                )
            shares = [share for share in np.array_split(batch, processes) if len(share)]
            new = _play(environment, shares, folder, lambda won: progress.advance(task, won))
            played += len(batch)
            solved += sum(len(part["seeds"]) for part in new)
            parts += new
    return parts


def _play(
    environment: MiniGridEnvironment,
    shares: Sequence[np.ndarray],
    folder: Path,
    advance: Callable[[int], None],
) -> list[Mapping[str, np.ndarray]]:
    workers = [_Worker(environment, share, folder / f"part-{i}.npz", advance) for i, share in enumerate(shares)]
    try:
        return [worker.result() for worker in workers]
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One recording process: its job goes in as JSON, a digit per episode comes out."""

    def __init__(
        self, environment: MiniGridEnvironment, seeds: np.ndarray, part: Path, advance: Callable[[int], None]
    ) -> None:
        job = {
            "env": environment.env,
            "kwargs": environment.kwargs,
            "seeds": seeds.tolist(),
            "part": str(part.absolute()),
        }
        self._part = part
        self._advance = advance
        self._last_lines: deque[str] = deque(maxlen=3)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mscore_plugin_minigrid.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job))
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # It died before reading; result() says of what.
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._follow, self._listen)]
        for reader in self._readers:
            reader.start()

    def result(self) -> Mapping[str, np.ndarray]:
        """Wait for the process and take its part."""
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if code:
            reason = " / ".join(line.strip() for line in self._last_lines) or "no message"
            raise MscoreError(f"a recording process ended with exit code {code}: {reason}")
        with np.load(self._part, allow_pickle=False) as part:
            arrays = dict(part)
        self._part.unlink()
        return arrays

    def stop(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._advance(int(line))

    def _listen(self) -> None:
        assert self._process.stderr is not None
        self._last_lines.extend(self._process.stderr)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)

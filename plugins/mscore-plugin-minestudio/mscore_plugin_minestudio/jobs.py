"""Jobs in several processes, which end with the process that started them, however that ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mscore import MscoreError

Job = TypeVar("Job")
Result = TypeVar("Result")

Advance = Callable[[float], None]
"""Called with the amount of work that was done."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def progress_bar(what: str, total: float) -> Iterator[Advance]:
    """Show a bar on a terminal, and nothing where the output is read by a program."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)


def run_jobs(
    function: Callable[[Job, Advance], Result], jobs: Sequence[Job], workers: int, advance: Advance
) -> Iterator[Result]:
    """Run a function on every job.

    Args:
        function: called with a job and with what to report progress to; importable by its name.
        jobs: for the function; pickled on their way.
        workers: processes; with one, the jobs run in this process.
        advance: gets what the function reports.

    Yields:
        The results, as they come.

    Raises:
        MscoreError: a process died. Any error of a job ends the others.
    """
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield function(job, advance)
        return
    context = multiprocessing.get_context("spawn")
    alive, hold = context.Pipe(duplex=False)
    amounts = context.SimpleQueue()
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_begin_worker, initargs=(alive, amounts)
    )
    reader = threading.Thread(target=_report, args=(amounts, advance), daemon=True)
    reader.start()
    try:
        futures: list[Future[Result]] = [executor.submit(_run, function, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise MscoreError(
            "a worker process died; if the machine ran out of memory, take fewer workers. "
            "The same command goes on where this one stopped"
        ) from error
    else:
        executor.shutdown()
        amounts.put(None)
        reader.join()
    finally:
        # The workers that are still at work end with this. What they report to is left as it is: one of them
        # may have died with its lock.
        hold.close()
        executor.shutdown(cancel_futures=True)


_amounts: Any = None


def _begin_worker(alive: Connection, amounts: Any) -> None:
    global _amounts
    _amounts = amounts
    # Ctrl-C reaches all processes of a terminal; the first one answers for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()


def _end_with_parent(alive: Connection) -> None:
    """End this process at once when the other end of a pipe is closed, by will or by SIGKILL."""
    try:
        alive.recv()
    except EOFError:
        os._exit(1)


def _run(function: Callable[[Job, Advance], Result], job: Job) -> Result:
    return function(job, _amounts.put)


def _report(amounts: Any, advance: Advance) -> None:
    while (amount := amounts.get()) is not None:
        advance(amount)

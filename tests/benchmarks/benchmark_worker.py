"""A process that is benchmarked: it takes requests, lines of JSON, and answers each with one.

It must run in the environments of others too, so it needs nothing but Python.
"""

import gc
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path


def serve(functions):
    """Answer requests ``{"do": name, …}`` by the function of that name, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(functions[request.pop("do")](**request)), file=answers, flush=True)


@contextmanager
def one_core():
    """Give the process one core only, so that libraries that count cores use one thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def milliseconds(function, frames):
    """CPU time of this process for a call, a frame; the call before is not counted."""
    function()
    start = time.process_time()
    function()
    return (time.process_time() - start) / frames * 1e3


def play(loader, batches):
    """Take batches from a loader.

    Returns:
        Frames a second by the clock, and milliseconds of CPU time a frame of this process and the loader's.
    """
    before, start = _cpu_seconds(), time.perf_counter()
    frames, iterator = 0, iter(loader)
    for _ in range(batches):
        frames += int(next(iterator)["mask"].sum())
    rate = frames / (time.perf_counter() - start)
    del iterator, loader
    gc.collect()  # ends the loader's workers, whose time counts only then
    return {"frames_a_second": rate, "milliseconds": (_cpu_seconds() - before) / frames * 1e3}


def _cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Worker:
    """The other end: starts such a process and asks it.

    Args:
        python: interpreter of its environment.
        script: the process's file, which calls :func:`serve`.
        log: where its messages go.
    """

    def __init__(self, python: Path | str, script: Path, log: Path) -> None:
        self._command = [str(python), str(script)]
        self._log = log
        self._start()

    def ask(self, do, **request):
        """The answer to a request; a process that died of a signal is started and asked again, and that is said."""
        attempt = 0
        while True:
            attempt += 1
            try:
                self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if answer:
                return json.loads(answer)
            words = self._log.read_text()[-2000:]
            if attempt == 3 or not (self._process.wait() < 0 or "killed by signal" in words):
                raise SystemExit(f"the process ended; its last words, in {self._log}:\n{words}")
            print(f"{self._command[-1].rpartition('/')[2]}: a process died of a signal in {do!r}; it is asked again")
            self._start()

    def stop(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _start(self) -> None:
        with self._log.open("w") as messages:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"},
            )

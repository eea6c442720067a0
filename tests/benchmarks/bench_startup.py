"""How long the command line takes to start, beside the libraries that it cannot do without.

Run ``python tests/benchmarks/bench_startup.py``. Prints CPU milliseconds (user and system, of a fresh
process, the least of many) and the ratio to importing the libraries alone. The runs are interleaved, so
that whatever else the machine does falls on all of them alike.
"""

import resource
import subprocess
import sys

REFERENCE = "import pluggy, importlib_metadata, rich.console, rich.table, click"

COMMANDS = {
    "libraries alone": ["-c", REFERENCE],
    "mscore --version": ["-m", "mscore", "--version"],
    "mscore --help": ["-m", "mscore", "--help"],
    "mscore plugins": ["-m", "mscore", "plugins"],
    "mscore plugins --json": ["-m", "mscore", "plugins", "--json"],
    "mscore recipes": ["-m", "mscore", "recipes"],
}

MOST_MILLISECONDS = 150
MOST_TIMES = 1.5


def cpu_milliseconds(arguments: list[str]) -> float:
    """CPU time of one process from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(rounds: int = 15) -> dict[str, float]:
    """The least CPU time of each command over interleaved rounds."""
    found = {name: float("inf") for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            found[name] = min(found[name], cpu_milliseconds(arguments))
    return found


if __name__ == "__main__":
    times = measure()
    reference = times["libraries alone"]
    for name, milliseconds in times.items():
        print(f"{name:24} {milliseconds:6.1f} ms {milliseconds / reference:6.2f}")
    print(f"allowed: {MOST_MILLISECONDS} ms and {MOST_TIMES} times the libraries")

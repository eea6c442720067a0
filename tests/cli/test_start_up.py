import importlib.util
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_startup.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bench_startup", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_listings_start_nearly_as_fast_as_the_libraries_below_them(benchmark):
    times = benchmark.measure(rounds=5)
    reference = times.pop("libraries alone")
    slow = {name: round(time / reference, 2) for name, time in times.items() if time > benchmark.MOST_TIMES * reference}
    assert not slow


@pytest.mark.slow
def test_the_listings_take_no_more_than_their_budget(benchmark):
    # The least of many, as other processes slow a machine down and never speed it up.
    times = benchmark.measure(rounds=25)
    assert max(times.values()) <= benchmark.MOST_MILLISECONDS, times

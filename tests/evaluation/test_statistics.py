"""Means, rates and their intervals against published values."""

import json

import pytest

from mscore.evaluation import EpisodeResult, Summary, summarize
from mscore.evaluation.statistics import mean_interval, student_t, wilson_interval


def episodes(returns, successes):
    return [EpisodeResult(i, r, 10 + i, True, s) for i, (r, s) in enumerate(zip(returns, successes, strict=True))]


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.7062), (5, 2.5706), (9, 2.2622), (10, 2.2281), (12, 2.1788), (29, 2.0452), (120, 1.9799), (10**6, 1.96)],
)
def test_student_t(degrees, expected):
    assert student_t(degrees) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_mean_interval():
    # Mean 3, deviation sqrt(2.5), t(4) = 2.7764.
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert mean_interval([1.0]) is None


def test_summary():
    summary = summarize(episodes([1.0, 0.0, 1.0, 1.0], [True, False, True, True]))
    assert (summary.episodes, summary.return_mean, summary.success_rate) == (4, 0.75, 0.75)
    assert summary.length_mean == 11.5
    assert str(summary) == "success 0.750 [0.301, 0.954] (4 episodes), return 0.75 ± 0.80"
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary
    assert summary.metrics() == {"eval/return": 0.75, "eval/length": 11.5, "eval/success": 0.75}


def test_the_line_of_a_good_policy():
    line = str(summarize(episodes([0.94] * 197 + [0.3] * 3, [True] * 197 + [False] * 3)))
    assert line == "success 0.985 [0.957, 0.995] (200 episodes), return 0.93 ± 0.01"


def test_no_notion_of_success():
    summary = summarize(episodes([1.0, 2.0], [None, None]))
    assert summary.success_rate is None
    assert "success" not in " ".join([str(summary), *summary.to_dict(), *summary.metrics()])
    assert Summary.from_dict(summary.to_dict()) == summary


def test_success_that_is_told_only_when_there_is_one():
    assert summarize(episodes([1.0, 0.0], [True, None])).success_rate == 0.5


def test_a_single_episode_has_no_interval_of_the_mean():
    assert str(summarize(episodes([1.0], [None]))) == "return 1.00 (1 episode)"


def test_no_episode():
    with pytest.raises(ValueError, match="no episode"):
        summarize([])

"""What a set of played episodes says: means and rates with their 95% intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscore.evaluation.rollouts import EpisodeResult

Interval = tuple[float, float]
"""Lower and upper end of a 95% confidence interval."""

_Z = statistics.NormalDist().inv_cdf(0.975)

# Two-sided 95% points of Student's t for 1 to 9 degrees of freedom; beyond, the expansion of
# Abramowitz & Stegun 26.7.5 is right to four decimals.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


@dataclass(frozen=True)
class Summary:
    """Means over episodes, with 95% intervals of the means."""

    episodes: int
    return_mean: float
    return_interval: Interval | None
    """Student's t interval of the mean; None for a single episode."""
    length_mean: float
    success_rate: float | None
    """Share of successes; None where the environment has no notion of success."""
    success_interval: Interval | None
    """Wilson's score interval, which holds for few episodes and for rates near 0 and 1 too."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; what is None is left out, intervals are lists."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Summary":
        """Read what :meth:`to_dict` wrote; other keys are ignored."""
        return cls(
            episodes=data["episodes"],
            return_mean=data["return_mean"],
            return_interval=_interval(data.get("return_interval")),
            length_mean=data["length_mean"],
            success_rate=data.get("success_rate"),
            success_interval=_interval(data.get("success_interval")),
        )

    def metrics(self) -> dict[str, float]:
        """The means under the names by which they are logged."""
        metrics = {"eval/return": self.return_mean, "eval/length": self.length_mean}
        if self.success_rate is not None:
            metrics["eval/success"] = self.success_rate
        return metrics

    def __str__(self) -> str:
        episodes = f"{self.episodes} episode{'s' if self.episodes != 1 else ''}"
        text = f"return {self.return_mean:.2f}"
        if self.return_interval is not None:
            text += f" ± {(self.return_interval[1] - self.return_interval[0]) / 2:.2f}"
        if self.success_rate is None or self.success_interval is None:
            return f"{text} ({episodes})"
        low, high = self.success_interval
        return f"success {self.success_rate:.3f} [{low:.3f}, {high:.3f}] ({episodes}), {text}"


def summarize(results: Sequence["EpisodeResult"]) -> Summary:
    """Summarize played episodes.

    An episode of unknown success (None) counts as a failure when others' success is known: many
    environments speak of success only when there is one.

    Raises:
        ValueError: if there is no episode.
    """
    if not results:
        raise ValueError("there is no episode to summarize")
    known = any(result.success is not None for result in results)
    successes = sum(result.success is True for result in results)
    returns = [result.episode_return for result in results]
    return Summary(
        episodes=len(results),
        return_mean=statistics.fmean(returns),
        return_interval=mean_interval(returns),
        length_mean=statistics.fmean(result.length for result in results),
        success_rate=successes / len(results) if known else None,
        success_interval=wilson_interval(successes, len(results)) if known else None,
    )


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95% interval for the mean, or None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = student_t(len(values) - 1) * statistics.stdev(values, mean) / math.sqrt(len(values))
    return mean - half, mean + half


def student_t(degrees: int) -> float:
    """The two-sided 95% point of Student's t distribution, to four decimals."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * degrees**4)
    )


def wilson_interval(successes: int, trials: int) -> Interval:
    """Wilson's 95% score interval for a rate (Wilson 1927)."""
    rate, weight = successes / trials, _Z**2 / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials)) / (1 + weight)
    # The ends are exact at rates of 0 and 1; rounding must not push them beyond.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == trials else centre + half)


def _interval(value: Sequence[float] | None) -> Interval | None:
    return None if value is None else (value[0], value[1])

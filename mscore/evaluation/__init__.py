"""Evaluation: a policy plays episodes in an environment; how it went, in numbers and in pictures.

Importing this package is cheap; torch and PyAV are imported on first use.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscore.contracts.environment import Environment
    from mscore.contracts.policy import MinePolicy
    from mscore.evaluation.callback import EvaluationCallback as EvaluationCallback
    from mscore.evaluation.rollouts import EpisodeResult as EpisodeResult
    from mscore.evaluation.rollouts import rollout as rollout
    from mscore.evaluation.statistics import Summary as Summary
    from mscore.evaluation.statistics import summarize as summarize

_LAZY = {
    "EpisodeResult": "mscore.evaluation.rollouts",
    "EvaluationCallback": "mscore.evaluation.callback",
    "Summary": "mscore.evaluation.statistics",
    "rollout": "mscore.evaluation.rollouts",
    "summarize": "mscore.evaluation.statistics",
}

__all__ = ["Evaluated", "evaluate", *_LAZY]


@dataclass(frozen=True)
class Evaluated:
    """What :func:`evaluate` found and wrote."""

    summary: "Summary"
    results: list["EpisodeResult"]
    """One per episode, ordered by seed."""
    video: Path | None
    """The film that was written; None if none was asked for or the environment cannot render."""
    picture: Path | None
    """The contact sheet that was written; None as for ``video``."""


def evaluate(
    policy: "MinePolicy",
    environment: "Environment",
    *,
    episodes: int = 200,
    seed: int = 2_000_000,
    num_envs: int = 16,
    deterministic: bool = True,
    video: Path | None = None,
    picture: Path | None = None,
    filmed_episodes: int = 4,
    progress: Callable[["EpisodeResult"], None] | None = None,
) -> Evaluated:
    """Play episodes and summarize them; film the first ones if asked.

    The filmed episodes count like the others. They are played one at a time, so that a film needs no
    memory; with deterministic actions the results are the same with and without a film. An environment
    that cannot render costs a warning and the film, not the evaluation.

    Args:
        policy: the policy, on the device where it shall compute.
        environment: the environment to play in.
        episodes: how many, at least 1.
        seed: of the first episode; the others follow. The default lies apart from the seeds of
            evaluations during training (1,000,000 and up), by which a checkpoint may have been chosen.
        num_envs: environments stepped side by side.
        deterministic: take the most probable action instead of sampling.
        video: where to write a film (MP4, H.264) of the first episodes.
        picture: where to write a contact sheet (PNG) of the first episodes.
        filmed_episodes: how many episodes the film and the contact sheet show.
        progress: called after every episode.

    Raises:
        MscoreError: if an environment raises, or does not take the policy's actions.
        ValueError: for less than one episode or environment.
    """
    from mscore.evaluation.rollouts import RenderError, rollout
    from mscore.evaluation.statistics import summarize

    settings: dict[str, Any] = {"deterministic": deterministic, "progress": progress}
    results: list[EpisodeResult] = []
    if (video or picture) and filmed_episodes > 0:
        from mscore.evaluation.video import filming

        try:
            with filming(video, picture) as camera:
                results = rollout(
                    policy,
                    environment,
                    episodes=min(filmed_episodes, episodes),
                    seed=seed,
                    frames=camera,
                    **settings,
                )
        except RenderError as error:
            warnings.warn(f"no video: {error}", stacklevel=2)
            video = picture = None
    played = len(results)
    if played < episodes:
        results += rollout(
            policy, environment, episodes=episodes - played, seed=seed + played, num_envs=num_envs, **settings
        )
    return Evaluated(summarize(results), results, video, picture)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)

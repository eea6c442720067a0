"""Letting a run's policy act in the environment of the run's config, and writing down how it went."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mscore.config import build
from mscore.contracts.environment import Environment
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.evaluation import Evaluated, evaluate
from mscore.evaluation.callback import HISTORY_FILE, read_history
from mscore.runs import directory as layout
from mscore.runs import strict_json
from mscore.runs.loading import check_plugins, find_plugin_files, rebuild_policy, recorded_selection
from mscore.runs.provenance import now
from mscore.runs.weights import Weights, apply_weights, read_weights

if TYPE_CHECKING:
    from mscore.evaluation import EpisodeResult
    from mscore.evaluation.statistics import Summary

EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class RunEvaluation:
    """How a run's policy did."""

    folder: Path
    """Holds ``evaluation.json`` and the pictures."""
    result: Evaluated
    averaged: bool
    """Averaged weights acted, not the trained ones."""
    checkpoint: str
    """Where the weights came from."""
    seconds: float
    settings: dict[str, Any]
    untrained: "Summary | None"
    """How the policy did before the run's first step, where the run evaluated it then."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; the summary's fields, where it came from, and every episode."""
        video, picture = self.result.video, self.result.picture
        return {
            **self.result.summary.to_dict(),
            "time": now(),
            "seconds": round(self.seconds, 2),
            "weights": "averaged" if self.averaged else "trained",
            "checkpoint": self.checkpoint,
            "settings": self.settings,
            "untrained": None if self.untrained is None else self.untrained.to_dict(),
            "folder": str(self.folder),
            "video": None if video is None else str(video),
            "picture": None if picture is None else str(picture),
            "results": [asdict(episode) for episode in self.result.results],
        }


def evaluate_run(
    run_directory: str | Path,
    *,
    averaged: bool | None = None,
    video: bool = True,
    device: str | None = None,
    progress: "Callable[[EpisodeResult], None] | None" = None,
    **settings: Any,
) -> RunEvaluation:
    """Play episodes with a run's policy, and write what came out to ``evaluations/<time>`` in the run.

    Args:
        run_directory: the run's directory.
        averaged: averaged weights (True) or the trained ones (False); None takes averaged weights where
            the run kept them.
        video: write a film and a picture of the first episodes, where the environment can render.
        device: where the policy computes; None takes a GPU if there is one.
        progress: called after every episode.
        **settings: those of :func:`mscore.evaluation.evaluate`: ``episodes``, ``seed``, ``deterministic``.

    Raises:
        MscoreError: the run's config names no environment, or there is no policy to load.
    """
    directory = layout.find_run(run_directory)
    find_plugin_files(directory, "policy", "environment")
    weights = read_weights(directory, averaged)
    assert weights is not None  # find_run has seen that it is a run
    environment = _environment(weights, directory)
    policy = _acting(weights, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # How many environments the machine can hold side by side is what the run's config knows.
    settings = {"num_envs": (weights.config.get("evaluation") or {}).get("num_envs"), **settings}
    settings = {name: value for name, value in settings.items() if value is not None}
    folder = directory / EVALUATIONS / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder.mkdir(parents=True)
    began = time.perf_counter()
    result = evaluate(
        policy,
        environment,
        video=folder / "episodes.mp4" if video else None,
        picture=folder / "episodes.png" if video else None,
        progress=progress,
        **settings,
    )
    seconds = time.perf_counter() - began
    untrained = next((row.summary for row in read_history(directory / HISTORY_FILE) if row.step == 0), None)
    evaluation = RunEvaluation(folder, result, weights.averaged, weights.source, seconds, settings, untrained)
    layout.write_file(folder / "evaluation.json", strict_json.dumps(evaluation.to_dict()) + "\n")
    return evaluation


def _acting(weights: Weights, device: str) -> MinePolicy:
    policy = rebuild_policy(weights)
    apply_weights(policy, weights.state, weights.source)
    return policy.to(device).eval()


def _environment(weights: Weights, directory: Path) -> Environment:
    if weights.config.get("environment") is None:
        raise MscoreError(
            f"the config of {layout.shown(directory)} names no environment; train with the section `environment:`, "
            "or evaluate in Python with mscore.evaluation.evaluate"
        )
    # What else the run used to train is not needed to watch it.
    check_plugins(weights, "policy", "environment")
    environment: Environment = build(recorded_selection(weights, "environment"))
    return environment

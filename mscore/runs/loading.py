"""From what a run left behind to a policy that acts."""

from pathlib import Path
from typing import Any

import torch

from mscore.config import Selection, build
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.heads.spaces import restore
from mscore.runs.provenance import compare
from mscore.runs.weights import Weights, apply_weights, read_weights


def load_policy(source: str | Path, *, averaged: bool | None = None, device: str | torch.device = "cpu") -> MinePolicy:
    """Load a trained policy, ready to act.

    Args:
        source: a run's directory, a checkpoint file (plain or its ``-EMA`` twin), or a directory that
            ``mscore export`` wrote.
        averaged: take averaged weights (True) or the trained ones (False); None takes averaged weights
            where the run kept them.
        device: where the policy goes.

    Returns:
        The policy in evaluation mode.

    Raises:
        MscoreError: there is nothing to load at ``source``, a plugin that the policy needs is missing, or
            weights and policy do not fit; tensors are named with both shapes.
    """
    weights = read_weights(source, averaged)
    if weights is None:
        raise MscoreError(f"{source} is not a run's directory, a checkpoint (.ckpt) or an exported policy")
    policy = rebuild_policy(weights)
    apply_weights(policy, weights.state, weights.source)
    return policy.to(device).eval()


def rebuild_policy(weights: Weights) -> MinePolicy:
    """Build the policy that weights belong to, from what is recorded beside them.

    Raises:
        MscoreError: nothing is recorded, or a plugin that it needs is missing.
    """
    if weights.policy is None:
        raise MscoreError(
            f"{weights.source} does not say how its policy is built (it was not written by `mscore run`): build "
            "the policy yourself and load the tensors under 'mine_policy.' of its 'state_dict'"
        )
    parameters = dict(weights.policy)
    use = parameters.pop("use")
    compare(
        {"plugins": policy_plugins(weights.record.get("plugins", []))}, doing=f"load the policy of {weights.source}"
    )
    policy: MinePolicy = build(
        Selection("policy", "policy", use, parameters, "policy", weights.source),
        injected=recorded_spaces(weights.record),
    )
    return policy


def recorded_spaces(record: dict[str, Any]) -> dict[str, Any]:
    """The spaces that a checkpoint or an exported policy describes, as a constructor takes them."""
    names = ("observation_space", "action_space")
    return {name: restore(record[name]) for name in names if record.get(name) is not None}


def policy_plugins(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a run's plugins those that its policy needs."""
    return [
        record
        for record in records
        if any(path == "policy" or path.startswith("policy.") for path in record.get("used_for", []))
    ]

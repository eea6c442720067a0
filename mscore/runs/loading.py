"""From what a run left behind to a policy that acts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mscore.components import find
from mscore.config import Selection, build
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.heads.spaces import restore_space
from mscore.runs import directory as layout
from mscore.runs.provenance import compare, find_files
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
    find_plugin_files(source, "policy")
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
    check_plugins(weights, "policy")
    return build_policy(
        recorded_selection(weights, "policy"), injected=recorded_spaces(weights.record), weights_follow=True
    )


def build_policy(selection: Selection, injected: Mapping[str, Any], *, weights_follow: bool) -> MinePolicy:
    """Build a policy; with ``weights_follow`` as its class wants to be built when all weights are loaded next."""
    if weights_follow:
        replaced = getattr(find("policy", selection.use).load(), "arguments_when_loaded", {})
        selection = dataclasses.replace(selection, parameters={**selection.parameters, **replaced})
    policy: MinePolicy = build(selection, injected=injected)
    return policy


def recorded_selection(weights: Weights, section: str) -> Selection:
    """The component that a section of the recorded config chooses; its section's name is its kind.

    Raises:
        MscoreError: nothing is recorded there.
    """
    chosen = weights.config.get(section)
    if not isinstance(chosen, dict) or "use" not in chosen:
        raise MscoreError(
            f"{weights.source} does not say how its {section} is built (it was not written by `mscore run`): build "
            "it yourself; the policy's tensors are under 'mine_policy.' of the checkpoint's 'state_dict'"
        )
    parameters = {name: value for name, value in chosen.items() if name != "use"}
    return Selection(section, section, chosen["use"], parameters, section, weights.source)


def find_plugin_files(source: str | Path, *sections: str) -> None:
    """Name the plugin files that sections of a run's config need, if ``source`` is a run's directory.

    Raises:
        MscoreError: a file is not where it was.
    """
    directory = Path(source).expanduser()
    if directory.is_dir():
        find_files({"plugins": plugins_for(layout.read_record(directory).get("plugins", []), *sections)})


def check_plugins(weights: Weights, *sections: str) -> None:
    """Check that the plugins are there which sections of the recorded config need.

    Raises:
        MscoreError: with the ``pip`` line for one that is missing.
    """
    needed = plugins_for(weights.record.get("plugins", []), *sections)
    compare({"plugins": needed}, doing=f"use {weights.source}")


def recorded_spaces(record: dict[str, Any]) -> dict[str, Any]:
    """The spaces that a checkpoint or an exported policy describes, as a constructor takes them."""
    names = ("observation_space", "action_space")
    return {name: restore_space(record[name]) for name in names if record.get(name) is not None}


def plugins_for(records: list[dict[str, Any]], *sections: str) -> list[dict[str, Any]]:
    """Of a run's plugins those that provide a component in one of these sections."""
    return [
        record for record in records if any(path.partition(".")[0] in sections for path in record.get("used_for", []))
    ]

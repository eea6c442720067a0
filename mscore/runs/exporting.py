"""A policy for others: its weights as safetensors, and a description that JSON can hold."""

from pathlib import Path

from mscore.errors import MscoreError
from mscore.runs import directory as layout
from mscore.runs import strict_json
from mscore.runs.loading import find_plugin_files, plugins_for, rebuild_policy
from mscore.runs.provenance import versions
from mscore.runs.weights import (
    DESCRIPTION_FILE,
    EXPORT_FILE,
    EXPORT_FORMAT,
    WEIGHTS_FILE,
    apply_weights,
    read_weights,
)

FORMAT_VERSION = 1


def export(source: str | Path, to: str | Path, averaged: bool = False) -> Path:
    """Write a run's policy to a directory that :func:`mscore.load_policy` reads, and others can.

    ``model.safetensors`` holds the tensors under the policy's own names. ``config.json`` has the keys
    ``format`` (``"mscore-policy"``), ``format_version`` (1), ``policy`` (the component's name under
    ``use``, and its parameters), ``observation_space`` and ``action_space`` (as
    :func:`mscore.describe_space` writes them), ``weights`` (``"trained"`` or ``"averaged"``),
    ``step`` (optimizer steps), ``plugins`` (those that the policy needs, with version and source) and
    ``versions`` (of mscore, torch and others). Where the policy has a layout of its own
    (:meth:`~mscore.MinePolicy.export_config`), ``config.json`` is in that, and these keys are in
    ``mscore.json``.

    Args:
        source: a run's directory, or one of its checkpoints.
        to: the directory; made if it is not there.
        averaged: write the averaged weights instead of the trained ones.

    Returns:
        The directory.

    Raises:
        MscoreError: ``to`` is not empty, there is nothing to export, or the run kept no averaged weights.
    """
    from safetensors.torch import save_file

    target = Path(to).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MscoreError(f"{to} exists and is not an empty directory; nothing was written")
    find_plugin_files(source, "policy")
    weights = read_weights(source, averaged)
    if weights is None:
        raise MscoreError(f"{source} is not a run's directory or a checkpoint (.ckpt)")
    policy = rebuild_policy(weights)
    apply_weights(policy, weights.state, weights.source)  # what is written can be loaded
    description = {
        "format": EXPORT_FORMAT,
        "format_version": FORMAT_VERSION,
        "policy": weights.config["policy"],
        "observation_space": weights.record.get("observation_space"),
        "action_space": weights.record.get("action_space"),
        "weights": "averaged" if weights.averaged else "trained",
        "step": weights.step,
        "plugins": plugins_for(weights.record.get("plugins", []), "policy"),
        "versions": versions(),
    }
    target.mkdir(parents=True, exist_ok=True)
    # Tied tensors share memory, which safetensors refuses; each is written by itself.
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.state.items()}, target / WEIGHTS_FILE)
    own_config = policy.export_config()
    if own_config is not None:
        layout.write_file(target / EXPORT_FILE, strict_json.dumps(own_config) + "\n")
    name = EXPORT_FILE if own_config is None else DESCRIPTION_FILE
    layout.write_file(target / name, strict_json.dumps(description) + "\n")
    return target

"""A policy's weights, from wherever mscore writes them: a run, a checkpoint, an exported directory."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mscore.contracts.averaging import AVERAGED_WEIGHTS_KEY, averaged_twin, is_averaged_twin
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.runs import directory as layout

POLICY_PREFIX = "mine_policy."
"""What the policy's tensors are called in a training checkpoint's ``state_dict``."""

RECORD_KEY = "mscore"
"""Key of a checkpoint's hyperparameters under which versions, plugins and spaces are kept, beside the
resolved config's sections."""

WEIGHTS_FILE = "model.safetensors"
EXPORT_FILE = "config.json"
EXPORT_FORMAT = "mscore-policy"
DESCRIPTION_FILE = "mscore.json"
"""Where an exported directory is described whose ``config.json`` is in the policy's own layout."""


@dataclass
class Weights:
    """Weights as they were found, and what was written beside them about the policy."""

    state: dict[str, Tensor]
    """The policy's own names to tensors."""
    source: str
    """Where they were found, for messages."""
    averaged: bool
    config: dict[str, Any] = field(default_factory=dict)
    """The resolved config's sections, or the policy's alone; empty where nothing says how it was built."""
    record: dict[str, Any] = field(default_factory=dict)
    """``versions``, ``plugins``, ``observation_space`` and ``action_space``, as far as recorded."""
    step: int | None = None


def read_weights(source: str | Path, averaged: bool | None = None) -> Weights | None:
    """Read a policy's weights.

    Args:
        source: a run's directory, a checkpoint file, or an exported directory.
        averaged: take averaged weights (True) or the trained ones (False); None takes averaged weights
            where there are any.

    Returns:
        The weights; None for a file or folder that mscore did not write, and is no checkpoint of Lightning's.

    Raises:
        MscoreError: nothing is there, it cannot be read, or it does not hold the weights asked for.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise MscoreError(f"there is no run, checkpoint or exported policy at {source}")
    if path.is_file():
        return _from_checkpoint(path, averaged) if path.suffix == ".ckpt" else None
    description = read_description(path)
    if description is not None:
        return _from_export(path, description, averaged)
    if (path / layout.CONFIG_FILE).is_file():
        return _from_checkpoint(newest_checkpoint(path), averaged)
    return None


def newest_checkpoint(directory: Path) -> Path:
    """The last checkpoint of a run; of a run with stages, that of the last stage that has one.

    Raises:
        MscoreError: the run has saved nothing yet.
    """
    for candidate in [*reversed(layout.stage_directories(directory)), directory]:
        checkpoint = layout.last_checkpoint(candidate)
        if checkpoint is not None:
            return checkpoint
    raise MscoreError(f"the run {layout.shown(directory)} has no checkpoint yet")


def apply_weights(policy: MinePolicy, state: Mapping[str, Tensor], source: str, *, strict: bool = True) -> None:
    """Load weights into a policy, all of them or none.

    Args:
        policy: where they go.
        state: the policy's own names to tensors, on any device and in any dtype.
        source: where they come from, for messages.
        strict: False warns of tensors that are missing or superfluous, and loads the others.

    Raises:
        MscoreError: naming every tensor that is missing, superfluous, or of another shape.
    """
    own = policy.state_dict()
    missing = {name: tensor for name, tensor in own.items() if name not in state}
    loose = [f"{name} is missing, the policy's is {_shape(tensor)}" for name, tensor in missing.items()]
    loose += [f"{name} is not in the policy, and is {_shape(state[name])}" for name in state if name not in own]
    wrong = [
        f"{name} is {_shape(state[name])}, the policy's is {_shape(tensor)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [*loose, *wrong] if strict else wrong
    if problems:
        raise MscoreError(f"the weights in {source} do not fit {type(policy).__name__}: {'; '.join(problems)}")
    if loose:
        warnings.warn(f"the weights in {source}: {'; '.join(loose)}", stacklevel=3)
    policy.load_state_dict({name: state[name] for name in own if name in state}, strict=not loose)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; code in it is never run.

    Raises:
        MscoreError: the file is damaged, is no checkpoint, or holds other objects.
    """
    try:
        # Mapped, so that taking the policy's tensors does not read the optimizer's.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise MscoreError(
            f"{path} holds more than tensors and plain values, or is damaged; such files are not read, as they "
            f"could run code: {_first_line(error)}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise MscoreError(f"{path} cannot be read as a checkpoint: {_first_line(error)}") from error
    if not isinstance(checkpoint, dict):
        raise MscoreError(f"{path} holds a {type(checkpoint).__name__}, expected a checkpoint")
    return checkpoint


def _from_checkpoint(path: Path, averaged: bool | None) -> Weights:
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict):
        raise MscoreError(f"{path} has no 'state_dict': it is not a checkpoint of a training run")
    is_twin = is_averaged_twin(path, checkpoint)
    average = checkpoint.get(AVERAGED_WEIGHTS_KEY) or {}
    if averaged is False and is_twin:
        raise MscoreError(f"{path} holds averaged weights; the trained ones are in the file without -EMA")
    if averaged and not is_twin and not average:
        twin = Path(averaged_twin(path))
        if twin.exists():
            return _from_checkpoint(twin, averaged)
        raise MscoreError(
            f"{path} holds no averaged weights: the run had no callback that keeps them, or it had not begun to average"
        )
    taken = {**state, **average} if averaged is not False else state
    hyperparameters = dict(checkpoint.get("hyper_parameters") or {})
    record = hyperparameters.pop(RECORD_KEY, {})
    return Weights(
        state={
            name.removeprefix(POLICY_PREFIX): tensor for name, tensor in taken.items() if name.startswith(POLICY_PREFIX)
        },
        source=layout.shown(path),
        averaged=is_twin or (averaged is not False and bool(average)),
        config=hyperparameters,
        record=record,
        step=checkpoint.get("global_step"),
    )


def read_description(path: Path) -> dict[str, Any] | None:
    """What an exported directory says about its policy; None where mscore did not write it.

    Raises:
        MscoreError: the description cannot be read.
    """
    if not (path / WEIGHTS_FILE).is_file():
        return None
    for file in (path / DESCRIPTION_FILE, path / EXPORT_FILE):
        if file.is_file():
            try:
                description = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise MscoreError(f"{file} cannot be read: {_first_line(error)}") from error
            if isinstance(description, dict) and description.get("format") == EXPORT_FORMAT:
                return description
    return None


def _from_export(path: Path, description: dict[str, Any], averaged: bool | None) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    is_averaged = description.get("weights") == "averaged"
    if averaged is not None and averaged != is_averaged:
        raise MscoreError(f"{path} holds {description.get('weights')} weights only; export the run again")
    try:
        state = load_file(path / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise MscoreError(f"{path / WEIGHTS_FILE} cannot be read: {_first_line(error)}") from error
    config = {"policy": description["policy"]}
    return Weights(state, layout.shown(path), is_averaged, config, description, description.get("step"))


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

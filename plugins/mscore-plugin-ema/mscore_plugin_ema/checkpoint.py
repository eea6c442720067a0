"""Where averaged weights lie in checkpoints, and in the module that they belong to."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from mscore import AVERAGED_OF_KEY, AVERAGED_SUFFIX, AVERAGED_WEIGHTS_KEY, averaged_twin
from mscore_plugin_ema.swap import BufferSlot

Load = Callable[[str], dict[str, Any]]
"""Reads the checkpoint at a path; raises FileNotFoundError if there is none."""


def live_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers of a module themselves, by their names in its ``state_dict``."""
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def buffer_slots(module: nn.Module) -> dict[int, BufferSlot]:
    """The persistent floating-point buffers of a module, by the ``id`` of the tensor that each holds now.

    A buffer with infinite entries (a mask) is a constant that cannot be averaged, and is left out.
    """
    return {
        id(buffer): BufferSlot(owner, name)
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
        and buffer.is_floating_point()
        and name not in owner._non_persistent_buffers_set
        and bool(torch.isfinite(buffer).all())
    }


def check_shapes(average: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    """Compare an average with the module that it is for.

    Raises:
        MisconfigurationException: if a tensor has another shape.
    """
    for name in average.keys() & live.keys():
        if average[name].shape != live[name].shape:
            raise MisconfigurationException(
                f"the averaged weights in the checkpoint do not fit the model: {name} has shape "
                f"{tuple(average[name].shape)} there and {tuple(live[name].shape)} in the model"
            )


def stored_average(checkpoint: Mapping[str, Any], path: str, load: Load) -> dict[str, Tensor] | None:
    """The average that belongs to a training checkpoint: in the file itself, or in the twin beside it.

    Returns:
        Averaged tensors by name, or None if there are none (or only those of another step).
    """
    if AVERAGED_WEIGHTS_KEY in checkpoint:
        return dict(checkpoint[AVERAGED_WEIGHTS_KEY])
    twin = read_beside(averaged_twin(path), load) if path else None
    if twin is None:
        return None
    step = twin.get(AVERAGED_OF_KEY, twin.get("global_step"))
    if step != checkpoint.get("global_step"):
        rank_zero_warn(
            f"{averaged_twin(path)} holds the averaged weights of step {step}, but {path} is of step "
            f"{checkpoint.get('global_step')}: they were not saved together, and the former is ignored"
        )
        return None
    return dict(twin["state_dict"])


def positional_average(checkpoint: Mapping[str, Any], module: nn.Module) -> dict[str, Tensor] | None:
    """The average of a checkpoint that lists it per optimizer, without names (MineStudio's layout).

    The lists are matched with the trainable parameters in their order, then with all parameters, and only
    if every shape agrees.
    """
    states = checkpoint.get("optimizer_states", [])
    average = [tensor for state in states for tensor in state.get("ema", ())]
    if not average:
        return None
    named = list(module.named_parameters())
    for candidates in ([(n, p) for n, p in named if p.requires_grad], named):
        if [p.shape for _, p in candidates] == [tensor.shape for tensor in average]:
            return {name: tensor for (name, _), tensor in zip(candidates, average, strict=True)}
    return None


def promote_twin(checkpoint: dict[str, Any], path: str, load: Load) -> None:
    """Complete a twin so that training can go on from it: its averaged weights are the weights now.

    What the twin lacks (optimizer, schedulers, callbacks) is taken from the training checkpoint that it
    was saved with. Without that file these start afresh, with a warning.
    """
    stem, extension = os.path.splitext(path)
    plain = f"{stem.removesuffix(AVERAGED_SUFFIX)}{extension}"
    states = checkpoint.get("optimizer_states")
    if states is None:
        beside = read_beside(plain, load) if plain != path else None
        together = beside is not None and beside.get("global_step") == checkpoint.get("global_step")
        if beside is not None and together and "optimizer_states" in beside:
            for key, value in beside.items():
                if key not in checkpoint or key == "callbacks":
                    checkpoint[key] = value
        else:
            rank_zero_warn(
                f"{path} holds weights only and {plain} of the same step with the optimizer's state is not "
                "beside it: optimizers and schedulers start afresh"
            )
            checkpoint.setdefault("lr_schedulers", [])
        states = checkpoint.get("optimizer_states", [])
    checkpoint["optimizer_states"] = [state.get("opt", state) for state in states]
    checkpoint.pop(AVERAGED_WEIGHTS_KEY, None)


def read_beside(path: str, load: Load) -> dict[str, Any] | None:
    """A checkpoint, or None if there is no such file."""
    try:
        return load(path)
    except FileNotFoundError:
        return None

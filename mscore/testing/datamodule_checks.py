"""What a data module must do (see ``docs/contracts.md``): batches of the agreed form, in an order that is exact."""

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from gymnasium import spaces
from lightning.pytorch.utilities import CombinedLoader

from mscore.heads.spaces import is_text, to_environment
from mscore.testing.checks import CheckFailed, CheckSkipped, check, require
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny_fits import SAVED_AT, Recorder, Saver, digest, fit
from mscore.tree import tree_map

DATAMODULE = "datamodule"
_BATCHES = 3


def _ready(subject: ComponentSubject, **changed: Any) -> pl.LightningDataModule:
    """A data module that is prepared and set up for training."""
    datamodule = _build(subject, **changed)
    datamodule.setup("fit")
    return datamodule


def _build(subject: ComponentSubject, **changed: Any) -> pl.LightningDataModule:
    sample = subject.sample
    if changed:
        from dataclasses import replace

        subject = replace(subject, source=replace(sample, parameters={**sample.parameters, **changed}))
    datamodule: pl.LightningDataModule = subject.build()
    datamodule.prepare_data()
    return datamodule


def _batches(loaders: Any, count: int = _BATCHES) -> Iterator[Any]:
    for loader in CombinedLoader(loaders).flattened if loaders is not None else ():
        iterator: Any = iter(loader)
        yield from islice(iterator, count)
        kept: Any = getattr(loader, "_iterator", None)
        for owner in (iterator, kept):
            if hasattr(owner, "_shutdown_workers"):
                # Left to the garbage collector, ending them can take seconds at any later moment.
                owner._shutdown_workers()


@check(DATAMODULE, "spaces", remedy="set both spaces in the constructor or in `prepare_data`, as data has them")
def known_spaces(subject: ComponentSubject) -> str:
    """After `prepare_data` it knows its spaces, and batches hold observations and actions of them."""
    datamodule = _build(subject)
    found: dict[str, Any] = {name: getattr(datamodule, name, None) for name in ("observation_space", "action_space")}
    for name, space in found.items():
        require(
            space is None or isinstance(space, spaces.Space), f"{name} is a {type(space).__name__}, expected a space"
        )
    if all(space is None for space in found.values()):
        raise CheckSkipped("it has no spaces; a run takes them from its environment")
    datamodule.setup("fit")
    batch: Any = next(_batches(datamodule.train_dataloader(), 1), None)
    require(isinstance(batch, Mapping), f"the first batch is a {type(batch).__name__}, expected a dict")
    if found["observation_space"] is not None:
        space = found["observation_space"]
        parts = space.spaces if isinstance(space, spaces.Dict) else {"image": space}
        for key, part in parts.items():
            require(key in batch, f"the batch lacks the observation {key!r}; it has {', '.join(sorted(batch))}")
            _refuse_misfit(key, batch[key], part)
    if found["action_space"] is not None:
        require("agent_action" in batch, "the batch lacks `agent_action`")
        _refuse_misfit("agent_action", batch["agent_action"], found["action_space"])
    return ", ".join(f"{name} {space}" for name, space in found.items() if space is not None)


def _refuse_misfit(name: str, value: Any, space: Any) -> None:
    """Hold the first frame of every row against a space."""
    if is_text(space):
        fits = isinstance(value, list) and all(isinstance(row, list) and isinstance(row[0], str) for row in value)
        require(fits, f"{name} is text, and the batch has no list of lists of strings for it")
        return
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            require(isinstance(value, Mapping) and key in value, f"{name} lacks {key!r}")
            _refuse_misfit(f"{name}.{key}", value[key], part)
        return
    if isinstance(space, spaces.Tuple):
        fits = isinstance(value, tuple) and len(value) == len(space.spaces)
        require(fits, f"{name} is no tuple of {len(space.spaces)} parts, as its space is")
        for place, part in enumerate(space.spaces):
            _refuse_misfit(f"{name}.{place}", value[place], part)
        return
    require(isinstance(value, torch.Tensor), f"{name} is a {type(value).__name__}, expected a tensor")
    shape = tuple(getattr(space, "shape", ()) or ())
    require(tuple(value.shape[2:]) == shape, f"{name} has the shape {tuple(value.shape)}, expected (B, T, *{shape})")
    if isinstance(space, spaces.Box):
        kind = torch.from_numpy(np.zeros((), space.dtype)).dtype
        fits = value.is_floating_point() == kind.is_floating_point and (kind != torch.uint8 or value.dtype == kind)
        require(fits, f"{name} is {value.dtype}, and its space {space.dtype}")
    else:
        require(not value.is_floating_point(), f"{name} is {value.dtype}, and its space holds integers")
    for row in range(len(value)):
        item = to_environment(tree_map(lambda leaf, row=row: leaf[row, 0], value), space)
        require(space.contains(item), f"{name} holds {item!r}, which lies outside of {space}")


@check(DATAMODULE, "batches", remedy="use `WindowDataset`, which makes such batches, or add what is missing")
def batches(subject: ComponentSubject) -> None:
    """Training and validation batches are dicts of tensors with leading (B, T), with flags of the agreed types."""
    datamodule = _ready(subject)
    loaders = {"train": datamodule.train_dataloader()}
    if type(datamodule).val_dataloader is not pl.LightningDataModule.val_dataloader:
        loaders["val"] = datamodule.val_dataloader()
    for step_name, loader in loaders.items():
        count = 0
        for count, batch in enumerate(_batches(loader), start=1):
            _refuse_form(batch, f"{step_name} batch {count - 1}")
        require(count or step_name == "val", "it gives no training batch")


def _refuse_form(batch: Any, where: str) -> None:
    require(isinstance(batch, Mapping), f"{where} is a {type(batch).__name__}, expected a dict")
    leading = {tuple(value.shape[:2]) for value in _tensors(batch) if value.dim() >= 2}
    require(leading, f"{where} has no tensor (B, T, …)")
    require(len(leading) == 1, f"{where}: tensors begin with different (B, T): {sorted(leading)}")
    (shape,) = leading
    for key, dtype in (("mask", torch.bool), ("first", torch.bool), ("timestamp", torch.int64)):
        value = batch.get(key)
        if value is not None:
            require(tuple(value.shape) == shape, f"{where}: {key} has the shape {tuple(value.shape)}, expected {shape}")
            require(value.dtype == dtype, f"{where}: {key} is {value.dtype}, expected {dtype}")
    names = batch.get("episode")
    if names is not None:
        fits = isinstance(names, list | tuple) and len(names) == shape[0] and all(isinstance(one, str) for one in names)
        require(fits, f"{where}: episode is no list of {shape[0]} strings")
    if "timestamp" in batch:
        begins = batch.get("first", torch.zeros(shape, dtype=torch.bool))[:, 1:]
        valid = batch.get("mask", torch.ones(shape, dtype=torch.bool))[:, 1:]
        # Data that skips frames counts on in larger steps, all of one size.
        steps = batch["timestamp"].diff(dim=1)[valid & ~begins]
        counts_on = not len(steps) or (steps[0] >= 1 and (steps == steps[0]).all())
        require(counts_on, f"{where}: timestamps do not count on within a row")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


@check(DATAMODULE, "order", remedy="draw the order from a generator of its own, seeded with (seed, epoch)")
def order(subject: ComponentSubject) -> None:
    """The order depends on its parameters alone: two instances give the same batches, whatever was drawn before."""
    seen = []
    for noise in (1, 2):
        datamodule = _build(subject)
        torch.manual_seed(noise)
        np.random.seed(noise)
        random.seed(noise)
        seen.append(_trained_on(datamodule, subject, f"order-{noise}"))
    require(seen[0] == seen[1], f"batch {_first_difference(*seen)} differs")


@check(DATAMODULE, "resume", remedy="derive from `ResumableDataModule`, or keep the place in `state_dict()`")
def resume(subject: ComponentSubject) -> None:
    """A fit that is resumed goes on with the exact next batch."""
    saved = subject.folder / "saved.ckpt"
    whole = _trained_on(_build(subject), subject, "whole", callbacks=[Saver(saved)])
    resumed = _trained_on(_build(subject), subject, "resumed", resume_from=saved)
    require(
        resumed == whole[SAVED_AT:],
        f"resumed after {SAVED_AT} batches, batch {SAVED_AT + _first_difference(resumed, whole[SAVED_AT:])} differs",
    )


@check(DATAMODULE, "setup-twice", remedy="let `setup` compute from the parameters alone, not from what it made before")
def setup_twice(subject: ComponentSubject) -> None:
    """`prepare_data` and `setup` can be called again without a change of the batches."""
    datamodule = _ready(subject)
    once = [digest(batch) for batch in _batches(datamodule.train_dataloader())]
    datamodule.prepare_data()
    datamodule.setup("fit")
    again = [digest(batch) for batch in _batches(datamodule.train_dataloader())]
    require(once == again, f"batch {_first_difference(once, again)} differs")


@check(DATAMODULE, "workers", remedy="seed random augmentation by what it augments, not by the worker's generator")
def workers(subject: ComponentSubject) -> None:
    """Two reading processes give the same batches as none."""
    if "num_workers" not in subject.schema.names:
        raise CheckSkipped("it has no parameter `num_workers`")
    seen = []
    for count in (0, 2):
        try:
            loader = _ready(subject, num_workers=count).train_dataloader()
            seen.append([digest(batch) for batch in _batches(loader)])
        except RuntimeError as error:
            raise CheckFailed(f"with num_workers={count}: {error}") from error
    require(seen[0] == seen[1], f"batch {_first_difference(*seen)} differs")


def _trained_on(datamodule: Any, subject: ComponentSubject, name: str, **options: Any) -> list[str]:
    """Digests of the batches that a short fit was given."""
    folder = subject.folder / name
    folder.mkdir()
    module = Recorder()
    fit(module, datamodule, folder, validate=False, steps=SAVED_AT + 3, **options)
    return module.seen


def _first_difference(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))

"""What a callback must do: let a fit go on, and be there again when one is resumed."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from mscore.contracts.averaging import find_averaged_weights
from mscore.offline.csv_logger import CSVLogger
from mscore.testing.checks import CheckFailed, CheckSkipped, Unusable, check, require
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny import TinyDataModule
from mscore.testing.tiny_fits import SAVED_AT, STEPS, Saver, fit, tiny_module
from mscore.testing.trees import copied, difference, named_leaves

CALLBACK = "callback"


def _build(subject: ComponentSubject, name: str) -> tuple[Any, Path]:
    """A fresh callback, and a folder of its own that it writes into."""
    folder = subject.folder / name
    folder.mkdir()
    return dataclasses.replace(subject, folder=folder).build(), folder


def _fitted(callback: pl.Callback, folder: Path, saved: Path | None = None) -> tuple[pl.LightningModule, pl.Trainer]:
    """A module that was fitted with the callback from the start, and its trainer.

    Raises:
        Unusable: the fit raises.
    """
    module = tiny_module()
    more = [] if saved is None else [Saver(saved)]
    try:
        trainer = fit(module, TinyDataModule(), folder, [callback, *more], logger=CSVLogger(folder))
    except Exception as error:
        text = " ".join(str(error).split())
        raise Unusable("fits", f"the fit raised {type(error).__name__}: {text}") from error
    return module, trainer


def _weights(module: pl.LightningModule, callback: pl.Callback) -> dict[str, Any]:
    """What a fit learned: trained weights, and averaged ones where the callback keeps them."""
    learned = {"trained": copied(module.state_dict())}
    averaging = find_averaged_weights([callback])
    if averaging is not None and averaging.has_averaged_weights:
        with averaging.averaged_weights_in_place():
            learned["averaged"] = copied(module.state_dict())
    return learned


@check(CALLBACK, "fits", remedy="mend what the reason says; every hook's signature is in Lightning's documentation")
def fits(subject: ComponentSubject) -> None:
    """A fit with training and validation runs to its end with it."""
    callback, folder = _build(subject, "fits")
    _, trainer = _fitted(callback, folder)
    require(trainer.global_step == STEPS or trainer.should_stop, f"the fit ended at step {trainer.global_step}")


@check(CALLBACK, "without-logger", remedy="ask `trainer.loggers` before logging: a run may have none")
def without_logger(subject: ComponentSubject) -> None:
    """A fit without logger runs to its end with it."""
    callback, folder = _build(subject, "fits")
    trainer = fit(tiny_module(), TinyDataModule(), folder, [callback])
    require(trainer.global_step == STEPS or trainer.should_stop, f"the fit ended at step {trainer.global_step}")


@check(
    CALLBACK,
    "resume",
    remedy="keep what is carried in `state_dict()`, as plain data and tensors",
)
def resume(subject: ComponentSubject) -> None:
    """A fit that is resumed in its middle learns bit for bit what the uninterrupted one learns."""
    callback, folder = _build(subject, "whole")
    saved = folder / "saved.ckpt"
    whole, trainer = _fitted(callback, folder, saved)
    if not saved.exists():
        raise CheckSkipped(f"it ended the fit at step {trainer.global_step}, before step {SAVED_AT}")
    try:
        torch.load(saved, weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise CheckFailed(f"its checkpoint cannot be read with weights_only=True: {first}") from error
    again, other = _build(subject, "resumed")
    resumed = tiny_module()
    fit(resumed, TinyDataModule(), other, [again], resume_from=saved, logger=CSVLogger(other))
    gap = difference(_weights(whole, callback), _weights(resumed, again))
    require(not gap, f"after a resume at step {SAVED_AT} of {STEPS} {gap}")
    gap = difference(_counts(callback), _counts(again))
    require(not gap, f"after a resume what `state_dict()` gives is another: {gap}")


def _counts(callback: pl.Callback) -> dict[str, Any]:
    """The whole numbers and tensors of a callback's state; times and paths may differ."""
    return {
        path: leaf
        for path, leaf in named_leaves(callback.state_dict())
        if isinstance(leaf, torch.Tensor) or (isinstance(leaf, int) and not isinstance(leaf, bool))
    }


@check(
    CALLBACK,
    "counts-on",
    remedy="keep the counter in `state_dict()` and take it back in `load_state_dict(state)`",
    advice=True,
)
def counts_on(subject: ComponentSubject) -> None:
    """What it counts in public attributes goes on after a resume."""
    callback, folder = _build(subject, "whole")
    saved = folder / "saved.ckpt"
    before = _numbers(callback)
    _fitted(callback, folder, saved)
    counted = {name: value for name, value in _numbers(callback).items() if value != before.get(name)}
    if not counted or not saved.exists():
        raise CheckSkipped("it counts nothing in public attributes")
    again, other = _build(subject, "resumed")
    fit(tiny_module(), TinyDataModule(), other, [again], resume_from=saved, logger=CSVLogger(other))
    after = _numbers(again)
    lost = [
        f"{name} is {after.get(name)}, uninterrupted {value}"
        for name, value in counted.items()
        if after.get(name) != value
    ]
    require(not lost, "; ".join(lost))


def _numbers(callback: pl.Callback) -> dict[str, int]:
    return {
        name: value
        for name, value in vars(callback).items()
        if not name.startswith("_") and isinstance(value, int) and not isinstance(value, bool)
    }


@check(CALLBACK, "off-again", remedy="keep all of its own in its own state; do not wrap what the checkpoint holds")
def off_again(subject: ComponentSubject) -> None:
    """A checkpoint that was written with it can be gone on from without it."""
    callback, folder = _build(subject, "with")
    saved = folder / "saved.ckpt"
    _fitted(callback, folder, saved)
    if not saved.exists():
        raise CheckSkipped("it ended the fit before a checkpoint was due")
    trainer = fit(tiny_module(), TinyDataModule(), folder, resume_from=saved)
    require(trainer.global_step == STEPS, f"the fit ended at step {trainer.global_step} of {STEPS}")


@check(CALLBACK, "picklable", remedy="open files and make locks in `setup`, not in the constructor")
def picklable(subject: ComponentSubject) -> None:
    """Before a fit it can be sent to a process that is spawned."""
    callback, _ = _build(subject, "pickled")
    try:
        pickle.loads(pickle.dumps(callback))
    except Exception as error:
        raise CheckFailed(f"{type(error).__name__}: {error}") from error

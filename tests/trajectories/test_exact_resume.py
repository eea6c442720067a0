"""A resumed fit sees exactly the batches that the uninterrupted one would have seen next."""

import contextlib
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from mscore import ResumableDataModule, WindowDataset

LENGTHS = np.random.default_rng(0).integers(1, 14, 14).tolist()


class Frames(WindowDataset):
    def read(self, episode, start, stop):
        return {"image": np.arange(start, stop, dtype=np.float32)[:, None] + 100 * episode}


class Data(ResumableDataModule):
    def __init__(self, batch_size=4, seed=1, num_workers=0, lengths=LENGTHS):
        super().__init__()
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.dataset = Frames([f"e{i}" for i in range(len(lengths))], lengths, 3)
        self.held_out = Frames(["x", "y"], [4, 7], 3)

    def train_dataloader(self):
        return self.training_loader(
            self.dataset, batch_size=self.batch_size, seed=self.seed, num_workers=self.num_workers
        )

    def val_dataloader(self):
        return self.validation_loader(self.held_out, batch_size=2)


class Module(pl.LightningModule):
    """Writes down what it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(list(zip(batch["episode"], batch["timestamp"][:, 0].tolist(), strict=True)))
        return (self.weight * batch["image"]).mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch["episode"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class Stop(Exception):
    pass


class StopAt(Callback):
    """Raises in the middle of a batch, and saves then, as a run that is asked to stop does."""

    def __init__(self, batch, path):
        self.batch, self.path = batch, path

    def on_exception(self, trainer, pl_module, exception):
        trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if len(pl_module.seen) == self.batch:
            raise Stop


def fit(directory, *, callbacks=(), ckpt_path=None, data=None, **arguments):
    module, data = Module(), data or Data()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dataloader is not resumable.*")
        with contextlib.suppress(Stop):
            trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return module


EPOCH = len(Data().train_dataloader())
EDGES = {1, 4, EPOCH - 1, EPOCH, EPOCH + 1, 2 * EPOCH}

LENGTH_OF_RUN = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_steps": 2 * EPOCH + 3, "max_epochs": -1},
}
VALIDATION = {
    "none": {"limit_val_batches": 0},
    "epoch end": {},
    "mid epoch": {"val_check_interval": 4},
}


def continues(directory, saved, run, workers=0, **arguments):
    """Resume every saved checkpoint and compare what follows with the uninterrupted run."""
    assert saved
    for path, batches in saved.items():
        module = fit(directory, ckpt_path=path, data=Data(num_workers=workers), **arguments)
        assert module.seen == run[batches:], f"{path} was written after {batches} batches"


class SaveEverywhere(Callback):
    """Saves checkpoints at all the places where callbacks do, after some of the batches or all."""

    def __init__(self, directory, batches=None):
        self.directory, self.batches, self.saved = directory, batches, {}

    def save(self, trainer, module, where):
        batches = len(module.seen)
        if self.batches is None or batches in self.batches:
            path = str(self.directory / f"{where}-{batches}.ckpt")
            trainer.save_checkpoint(path)
            self.saved[path] = batches

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.save(trainer, pl_module, "batch")

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.save(trainer, pl_module, "validation")

    def on_train_epoch_end(self, trainer, pl_module):
        self.save(trainer, pl_module, "epoch")


@pytest.mark.parametrize(
    "batches", [pytest.param(EDGES, id="edges"), pytest.param(None, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("validation", VALIDATION)
@pytest.mark.parametrize("length", LENGTH_OF_RUN)
def test_after_batches_validations_and_epochs(tmp_path, length, validation, batches):
    arguments = {**LENGTH_OF_RUN[length], **VALIDATION[validation]}
    saver = SaveEverywhere(tmp_path, batches)
    run = fit(tmp_path, callbacks=[saver], **arguments).seen
    assert len(run) >= 2 * EPOCH
    assert run[:EPOCH] != run[EPOCH : 2 * EPOCH]
    continues(tmp_path, saver.saved, run, **arguments)


@pytest.mark.parametrize("length", LENGTH_OF_RUN)
def test_with_gradient_accumulation(tmp_path, length):
    arguments = {**LENGTH_OF_RUN[length], "accumulate_grad_batches": 2}
    if "max_steps" in arguments:
        arguments["max_steps"] = EPOCH
    saver = SaveEverywhere(tmp_path, EDGES | {2, 3})
    run = fit(tmp_path, callbacks=[saver], **arguments).seen
    continues(tmp_path, saver.saved, run, **arguments)


def test_with_worker_processes(tmp_path):
    saver = SaveEverywhere(tmp_path, {4, EPOCH})
    run = fit(tmp_path, callbacks=[saver], data=Data(num_workers=2), max_epochs=3).seen
    assert run == fit(tmp_path, max_epochs=3).seen
    continues(tmp_path, saver.saved, run, workers=2, max_epochs=3)


def test_with_lightnings_own_checkpoints_and_a_part_of_every_epoch(tmp_path):
    arguments = {"max_epochs": 4, "limit_train_batches": 5}
    checkpoints = ModelCheckpoint(
        tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )
    run = fit(tmp_path, callbacks=[checkpoints], **arguments).seen
    saved = {str(path): int(path.stem) for path in tmp_path.glob("*.ckpt")}
    assert len(saved) == len(run) == 20
    continues(
        tmp_path, {path: batches for path, batches in saved.items() if batches in (3, 5, 6, 15)}, run, **arguments
    )


@pytest.mark.parametrize("crash", [1, 4, EPOCH, EPOCH + 1, 2 * EPOCH - 1])
def test_after_a_crash_in_a_batch(tmp_path, crash):
    run = fit(tmp_path, max_epochs=3).seen
    path = tmp_path / "crash.ckpt"
    before = fit(tmp_path, callbacks=[StopAt(crash, path)], max_epochs=3).seen
    assert len(before) == crash
    after = fit(tmp_path, ckpt_path=path, max_epochs=3).seen
    assert before + after == run


def test_resumed_twice(tmp_path):
    run = fit(tmp_path, max_epochs=4).seen
    saver = SaveEverywhere(tmp_path)
    fit(tmp_path, callbacks=[saver], max_epochs=2)
    first = next(path for path, batches in saver.saved.items() if batches == EPOCH + 2)
    second = SaveEverywhere(tmp_path / "second", {2, EPOCH - 2, EPOCH})
    fit(tmp_path, callbacks=[second], ckpt_path=first, max_epochs=3)
    for path, batches in second.saved.items():
        assert fit(tmp_path, ckpt_path=path, max_epochs=4).seen == run[EPOCH + 2 + batches :]


def test_validation_starts_anew_every_time(tmp_path):
    module = fit(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    per_epoch = len(module.validated) // 2
    assert module.validated[:per_epoch] == module.validated[per_epoch:]


def test_a_second_fit_of_the_same_trainer_goes_on(tmp_path):
    run = fit(tmp_path, max_epochs=2).seen
    module, data = Module(), Data()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=data)
    assert module.seen == run


def test_a_data_module_restored_once_starts_afresh_with_a_new_trainer(tmp_path):
    saver = SaveEverywhere(tmp_path)
    run = fit(tmp_path, callbacks=[saver], max_epochs=1).seen
    data = Data()
    fit(tmp_path, ckpt_path=next(iter(saver.saved)), data=data, max_epochs=1)
    assert fit(tmp_path, data=data, max_epochs=1).seen == run


def test_changed_data_is_said_and_goes_on_at_the_same_share(tmp_path):
    saver = SaveEverywhere(tmp_path)
    fit(tmp_path, callbacks=[saver], max_epochs=1)
    half = next(path for path, batches in saver.saved.items() if batches == EPOCH // 2)
    data = Data(batch_size=2)
    with pytest.warns(UserWarning, match="cannot be continued exactly"):
        module = fit(tmp_path, ckpt_path=half, data=data, max_epochs=1)
    whole = fit(tmp_path, data=Data(batch_size=2), max_epochs=1).seen
    assert module.seen == whole[EPOCH // 2 * len(whole) // EPOCH :][: len(module.seen)]


def test_making_a_loader_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(Data().train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)

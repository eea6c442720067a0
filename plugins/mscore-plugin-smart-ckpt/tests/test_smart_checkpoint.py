"""SmartCheckpointCallback in fits: pairs, links, removal, resume."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from mscore_plugin_ema import EMA
from mscore_plugin_smart_ckpt import SmartCheckpointCallback

from mscore import AVERAGED_OF_KEY, AVERAGED_WEIGHTS_KEY, AtomicCheckpointIO

WEIGHT = "net.0.weight"


def read(path: Path | str) -> dict[str, Any]:
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def smart(folder: Path, **kwargs: Any) -> SmartCheckpointCallback:
    settings: dict[str, Any] = {"filename": "{step}", "save_top_k": -1, "every_n_train_steps": 4}
    return SmartCheckpointCallback(dirpath=folder, **{**settings, **kwargs})


@pytest.mark.parametrize("weights_only", [False, True])
def test_each_checkpoint_has_its_averaged_twin(small, data, trainer, tmp_path, weights_only: bool) -> None:
    module = small(width=5)
    trainer(smart(tmp_path, save_weights_only=weights_only), EMA(0.5)).fit(module, data())
    assert names(tmp_path) == {"step=4.ckpt", "step=4-EMA.ckpt", "step=8.ckpt", "step=8-EMA.ckpt"}
    plain, twin = read(tmp_path / "step=8.ckpt"), read(tmp_path / "step=8-EMA.ckpt")
    assert torch.equal(plain["state_dict"][WEIGHT], module.net[0].weight)
    assert ("optimizer_states" in plain) is not weights_only
    assert "optimizer_states" not in twin  # the seed stored Adam's moments twice (D14)
    assert twin[AVERAGED_OF_KEY] == twin["global_step"] == plain["global_step"] == 8
    if not weights_only:
        average = plain[AVERAGED_WEIGHTS_KEY]
        assert all(torch.equal(twin["state_dict"][name], average[name]) for name in average)
    assert not torch.equal(twin["state_dict"][WEIGHT], plain["state_dict"][WEIGHT])
    loaded = small.load_from_checkpoint(tmp_path / "step=8-EMA.ckpt")
    assert loaded.hparams["width"] == 5
    assert torch.equal(loaded.net[0].weight, twin["state_dict"][WEIGHT])


def test_without_averaged_weights_there_is_no_twin(small, data, trainer, tmp_path) -> None:
    trainer(smart(tmp_path)).fit(small(), data())
    assert names(tmp_path) == {"step=4.ckpt", "step=8.ckpt"}


class Doubled(pl.Callback):
    """Keeps "averaged" weights in its own way: by copying contents, as other people's callbacks do."""

    has_averaged_weights = True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.module = pl_module

    @contextmanager
    def averaged_weights_in_place(self) -> Iterator[None]:
        weight = self.module.net[0].weight
        kept = weight.detach().clone()
        weight.data.mul_(2)
        try:
            yield
        finally:
            weight.data.copy_(kept)


def test_any_callback_that_keeps_averaged_weights_will_do(small, data, trainer, tmp_path) -> None:
    trainer(smart(tmp_path), Doubled()).fit(small(), data())
    plain, twin = read(tmp_path / "step=8.ckpt"), read(tmp_path / "step=8-EMA.ckpt")
    assert torch.equal(twin["state_dict"][WEIGHT], 2 * plain["state_dict"][WEIGHT])


def test_only_the_file_name_gets_the_mark(small, data, trainer, tmp_path) -> None:
    """D12: `.ckpt` in a folder's name was replaced as well."""
    folder = tmp_path / "exp.ckpt_dir" / "a.ckpt"
    trainer(smart(folder), EMA(0.5)).fit(small(), data())
    assert "step=8-EMA.ckpt" in names(folder)
    assert names(tmp_path) == {"exp.ckpt_dir"}


def test_last_never_means_the_twin(small, data, trainer, tmp_path) -> None:
    """D1: `ckpt_path='last'` took last-EMA.ckpt, the newest file that begins with `last`."""
    module = small()
    trainer(smart(tmp_path, save_last=True), EMA(0.5)).fit(module, data())
    assert {"last.ckpt", "last-EMA.ckpt"} <= names(tmp_path)
    assert torch.equal(read(tmp_path / "last.ckpt")["state_dict"][WEIGHT], module.net[0].weight)
    fresh, saver, ema = small(), smart(tmp_path, save_last=True), EMA(0.5)
    run = trainer(saver, ema)
    run.fit(fresh, data(), ckpt_path="last")
    assert Path(str(run.ckpt_path)).name == "last.ckpt"
    assert torch.equal(fresh.net[0].weight, module.net[0].weight)


def test_the_link_goes_to_the_trained_weights_and_its_twin_to_theirs(small, data, trainer, tmp_path) -> None:
    """D3: last.ckpt pointed at the twin."""
    trainer(smart(tmp_path, save_last="link"), EMA(0.5)).fit(small(), data())
    assert (tmp_path / "last.ckpt").is_symlink()
    assert (tmp_path / "last.ckpt").readlink() == Path("step=8.ckpt")
    assert (tmp_path / "last-EMA.ckpt").readlink() == Path("step=8-EMA.ckpt")
    run = trainer(smart(tmp_path, save_last="link"), EMA(0.5))
    run.fit(small(), data(), ckpt_path="last")
    assert Path(str(run.ckpt_path)).name == "last.ckpt"


def test_the_link_never_dangles(small, data, trainer, tmp_path, monkeypatch) -> None:
    seen: list[bool] = []
    remove = TorchCheckpointIO.remove_checkpoint

    def look_and_remove(self: Any, path: Any) -> None:
        remove(self, path)
        seen.append((tmp_path / "last.ckpt").exists())

    monkeypatch.setattr(TorchCheckpointIO, "remove_checkpoint", look_and_remove)
    trainer(smart(tmp_path, save_last="link", save_top_k=1, every_n_train_steps=2), EMA(0.5)).fit(small(), data())
    assert seen
    assert all(seen)
    assert names(tmp_path) == {"step=8.ckpt", "step=8-EMA.ckpt", "last.ckpt", "last-EMA.ckpt"}


def test_pairs_are_removed_together(small, data, trainer, tmp_path) -> None:
    trainer(smart(tmp_path, save_top_k=1, every_n_train_steps=2), EMA(0.5)).fit(small(), data())
    assert names(tmp_path) == {"step=8.ckpt", "step=8-EMA.ckpt"}


def test_the_best_are_kept_in_pairs(small, data, trainer, tmp_path) -> None:
    saver = smart(tmp_path, monitor="val_loss", mode="max", save_top_k=2, every_n_train_steps=None)
    run = trainer(saver, EMA(0.5), max_epochs=4)
    run.fit(small(), data(), data(1))
    kept = {Path(path).name for path in saver.best_k_models}
    assert len(kept) == 2
    assert names(tmp_path) == kept | {name.replace(".ckpt", "-EMA.ckpt") for name in kept}
    assert not Path(saver.best_model_path).stem.endswith("-EMA")


def test_every_n_epochs(small, data, trainer, tmp_path) -> None:
    trainer(smart(tmp_path, every_n_train_steps=None, every_n_epochs=2), EMA(0.5), max_epochs=3).fit(small(), data())
    assert names(tmp_path) == {"step=16.ckpt", "step=16-EMA.ckpt"}


def test_instances_with_equal_intervals_resume_their_own_state(small, data, trainer, tmp_path) -> None:
    """Lightning refuses them: their state would be stored under one key."""

    def savers() -> list[SmartCheckpointCallback]:
        return [
            smart(tmp_path / "weights", save_weights_only=True),
            smart(tmp_path / "full", save_top_k=1),
            smart(tmp_path / "full", filename="other-{step}", save_top_k=1),
        ]

    first = savers()
    assert len({saver.state_key for saver in first}) == 3
    trainer(*first, EMA(0.5)).fit(small(), data())
    again = savers()
    trainer(*again[::-1], EMA(0.5)).fit(small(), data(), ckpt_path=str(tmp_path / "full" / "step=8.ckpt"))
    for before, after in zip(first, again, strict=True):
        assert Path(after.best_model_path).parent == Path(before.best_model_path).parent
        assert Path(after.best_model_path).name.startswith("other-") is (before is first[2])


def test_what_the_run_resumed_from_stays(small, data, trainer, tmp_path) -> None:
    trainer(smart(tmp_path, save_top_k=1), EMA(0.5)).fit(small(), data())
    run = trainer(smart(tmp_path, save_top_k=1), EMA(0.5), max_epochs=2)
    with pytest.warns(UserWarning, match="not empty"):
        run.fit(small(), data(), ckpt_path=str(tmp_path / "step=8-EMA.ckpt"))
    assert run.global_step == 16
    assert int(next(iter(run.optimizers[0].state.values()))["step"]) == 16
    assert {"step=8.ckpt", "step=8-EMA.ckpt", "step=16.ckpt", "step=16-EMA.ckpt"} == names(tmp_path)


def test_weights_only_pairs_are_evaluated_with_the_average(small, data, trainer, tmp_path) -> None:
    """D7, for files that hold no callback state."""
    trainer(smart(tmp_path, save_weights_only=True), EMA(0.5)).fit(small(), data())
    fresh = small()
    trainer(EMA(0.5)).test(fresh, data(1), ckpt_path=str(tmp_path / "step=8.ckpt"), verbose=False)
    assert torch.equal(fresh.evaluated[-1], read(tmp_path / "step=8-EMA.ckpt")["state_dict"][WEIGHT])


def test_a_save_on_exception_in_validation_is_a_right_pair(small, data, trainer, tmp_path) -> None:
    """D5: the averaged weights in place for validation were saved as the trained ones."""
    module = small()
    module.fail_at = 8
    with pytest.raises(RuntimeError, match="validation failed"):
        trainer(smart(tmp_path, save_on_exception=True, every_n_train_steps=100), EMA(0.5)).fit(module, data(), data(1))
    plain, twin = read(tmp_path / "step=8.ckpt"), read(tmp_path / "step=8-EMA.ckpt")
    assert torch.equal(plain["state_dict"][WEIGHT], module.net[0].weight)
    assert torch.equal(twin["state_dict"][WEIGHT], module.evaluated[-1])
    assert not torch.equal(twin["state_dict"][WEIGHT], plain["state_dict"][WEIGHT])


def test_files_are_written_atomically_unless_another_writer_was_chosen(small, data, trainer, tmp_path) -> None:
    class Other(TorchCheckpointIO):
        pass

    run = trainer(smart(tmp_path / "a"), EMA(0.5))
    run.fit(small(), data())
    assert type(run.strategy.checkpoint_io) is AtomicCheckpointIO
    run = trainer(smart(tmp_path / "b"), EMA(0.5), plugins=[Other()])
    run.fit(small(), data())
    assert type(run.strategy.checkpoint_io) is Other
    assert names(tmp_path / "a") == names(tmp_path / "b")


def test_loggers_hear_of_files_that_are_there(small, data, trainer, tmp_path) -> None:
    class Logger(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
            seen.append(names(tmp_path / "c") >= {f"step={step}.ckpt" for step in range(4, 4 * len(seen) + 5, 4)})

    seen: list[bool] = []
    trainer(smart(tmp_path / "c"), EMA(0.5), logger=Logger(tmp_path / "logs")).fit(small(), data())
    assert seen == [True, True]


def test_a_file_name_that_claims_to_be_a_twin_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="mark of averaged weights"):
        SmartCheckpointCallback(filename="best-EMA")


def test_the_callbacks_of_the_tutorial(small, data, trainer, tmp_path) -> None:
    speed_monitor = pytest.importorskip("mscore_plugin_speed_monitor")
    callbacks = [
        LearningRateMonitor(logging_interval="step"),
        speed_monitor.SpeedMonitorCallback(),
        SmartCheckpointCallback(
            dirpath=tmp_path / "weights",
            filename="weight-{epoch}-{step}",
            save_top_k=-1,
            every_n_train_steps=3,
            save_weights_only=True,
        ),
        SmartCheckpointCallback(
            dirpath=tmp_path / "checkpoints",
            filename="ckpt-{epoch}-{step}",
            save_top_k=1,
            every_n_train_steps=4,
            save_weights_only=False,
        ),
        EMA(decay=0.9, validate_original_weights=True, every_n_steps=2, cpu_offload=False),
    ]
    run = trainer(*callbacks, logger=CSVLogger(tmp_path), precision="bf16", gradient_clip_val=1.0)
    run.fit(model=small(), train_dataloaders=data(), ckpt_path=None)
    assert names(tmp_path / "weights") == {
        f"weight-epoch=0-step={step}{mark}.ckpt" for step in (3, 6) for mark in ("", "-EMA")
    }
    assert names(tmp_path / "checkpoints") == {"ckpt-epoch=0-step=8.ckpt", "ckpt-epoch=0-step=8-EMA.ckpt"}

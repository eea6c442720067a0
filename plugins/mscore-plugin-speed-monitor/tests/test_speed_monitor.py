"""SpeedMonitorCallback in fits with known durations."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from mscore_plugin_speed_monitor import SpeedMonitorCallback
from mscore_plugin_speed_monitor.callback import frames_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

STEP, WAIT, PAUSE = 0.01, 0.01, 0.4


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of 5 frames that take their time to come."""

    def __init__(self, count: int, wait: float = 0.0) -> None:
        self.count, self.wait = count, wait

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.count:
            raise IndexError
        time.sleep(self.wait)
        return {"image": torch.zeros(2, 5, 4, 4, 3), "mask": torch.ones(2, 5), "agent_action": torch.zeros(2, 5)}


class Slow(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(STEP)
        return self.net(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(PAUSE)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        time.sleep(PAUSE)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Recorder(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        if any(key.startswith("speed/") for key in metrics):
            self.rows.append((step or 0, dict(metrics)))


def fit(count: int, *callbacks: pl.Callback, wait: float = 0.0, validate: bool = False, **kwargs: Any) -> Recorder:
    recorder = Recorder()
    settings: dict[str, Any] = {"max_epochs": 1, "logger": recorder, "enable_checkpointing": False} | kwargs
    run = pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **settings,
    )
    validation = DataLoader(Windows(1), batch_size=None) if validate else None
    run.fit(Slow(), DataLoader(Windows(count, wait), batch_size=None), validation)
    return recorder


def test_rates_and_data_wait() -> None:
    recorder = fit(20, SpeedMonitorCallback(interval=10), wait=WAIT)
    assert [step for step, _ in recorder.rows] == [10, 20]
    for _, row in recorder.rows:
        rate = row["speed/batches_per_second"]
        assert 10 < rate <= 1 / (STEP + 0.9 * WAIT)
        assert row["speed/frames_per_second"] == pytest.approx(10 * rate)
        assert row["speed/optimizer_steps_per_second"] == pytest.approx(rate)
        assert 0.15 < row["speed/data_wait_share"] < 0.85
        assert 0.05 < row["speed/peak_memory_gib"] < 100
        assert "speed/peak_gpu_memory_gib" not in row


def test_the_first_interval_divides_by_nothing() -> None:
    recorder = fit(2, SpeedMonitorCallback(interval=1))
    assert [step for step, _ in recorder.rows] == [1, 2]
    assert recorder.rows[0][1]["speed/data_wait_share"] == 0.0


def test_intervals_run_on_across_epochs() -> None:
    """M3: counting by batch_idx started over with each epoch."""
    recorder = fit(3, SpeedMonitorCallback(interval=5), max_epochs=5)
    assert [step for step, _ in recorder.rows] == [5, 10, 15]


def test_accumulated_batches_are_fewer_optimizer_steps() -> None:
    row = fit(8, SpeedMonitorCallback(interval=8), accumulate_grad_batches=4).rows[0][1]
    ratio = row["speed/batches_per_second"] / row["speed/optimizer_steps_per_second"]
    assert ratio == pytest.approx(4)


def test_validation_does_not_count() -> None:
    """M3: the interval included validation."""
    row = fit(8, SpeedMonitorCallback(interval=8), validate=True, val_check_interval=4).rows[0][1]
    assert 8 / row["speed/batches_per_second"] < PAUSE


@pytest.mark.parametrize("weights_only", [False, True])
def test_saving_does_not_count(tmp_path: Path, weights_only: bool) -> None:
    """M3: the interval included checkpoints."""
    saver = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=4, save_weights_only=weights_only)
    row = fit(8, SpeedMonitorCallback(interval=8), saver, enable_checkpointing=True).rows[0][1]
    assert 8 / row["speed/batches_per_second"] < PAUSE


def test_without_a_logger_there_is_nothing_to_do() -> None:
    """M3: AttributeError."""
    assert fit(2, SpeedMonitorCallback(interval=1), logger=False).rows == []


def test_each_logger_gets_the_row_and_a_second_fit_starts_afresh() -> None:
    callback, first, second = SpeedMonitorCallback(interval=3), Recorder(), Recorder()
    fit(4, callback, logger=[first, second])
    assert len(first.rows) == len(second.rows) == 1
    assert [step for step, _ in fit(4, callback).rows] == [3]


def test_other_ranks_stay_silent() -> None:
    class Second(pl.Trainer):
        is_global_zero = False  # type: ignore[assignment]

    callback, recorder = SpeedMonitorCallback(interval=1), Recorder()
    trainer = Second(accelerator="cpu", logger=recorder, enable_checkpointing=False, max_epochs=1)
    callback.on_train_start(trainer, Slow())
    callback.on_train_batch_start(trainer, Slow(), {}, 0)
    callback.on_train_batch_end(trainer, Slow(), None, {}, 0)
    assert recorder.rows == []


@pytest.mark.parametrize(
    ("batch", "frames"),
    [
        ({"image": torch.zeros(2, 7, 3), "text": ["a"]}, 14),
        ({"x": torch.zeros(9), "first": torch.zeros(3, 4)}, 12),
        ({"agent_action": {"camera": torch.zeros(3, 5, 2)}, "episode": ["a"]}, 15),
        ({"x": torch.zeros(9)}, 9),
        ([torch.zeros(6, 3, 8, 8), torch.zeros(6)], 6),
        (torch.zeros(4, 2), 4),
        (torch.tensor(1.0), 0),
        ({"episode": ["a"]}, 0),
        (None, 0),
    ],
)
def test_frames_of_batches(batch: Any, frames: int) -> None:
    assert frames_of(batch) == frames


def test_an_interval_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="interval"):
        SpeedMonitorCallback(interval=0)

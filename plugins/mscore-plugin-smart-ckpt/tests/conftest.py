"""A small module to train, and trainers for it."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Small(pl.LightningModule):
    """A regression with a validation loss."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.evaluated: list[Tensor] = []
        self.fail_at: int | None = None

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.net(batch) - batch.sum(-1, keepdim=True)).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.evaluated.append(self.net[0].weight.detach().clone())
        self.log("val_loss", self.training_step(batch, batch_idx))
        if self.fail_at is not None and self.global_step >= self.fail_at:
            raise RuntimeError("validation failed")

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.evaluated.append(self.net[0].weight.detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def _loader(count: int = 8) -> DataLoader[Any]:
    data = torch.randn(count * 4, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(data, batch_size=4)  # type: ignore[arg-type]


def _trainer(*callbacks: pl.Callback, **kwargs: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    settings.update(kwargs)
    return pl.Trainer(callbacks=list(callbacks), **settings)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def small() -> type[Small]:
    return Small


@pytest.fixture
def data() -> Callable[..., DataLoader[Any]]:
    return _loader


@pytest.fixture
def trainer() -> Callable[..., pl.Trainer]:
    return _trainer

"""A small module to train, and trainers for it."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Tiny(pl.LightningModule):
    """A regression that records the weights with which it was evaluated."""

    def __init__(self, width: int = 4, norm: bool = False, optimizer: str = "adamw") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.head = nn.Linear(width, 1)
        self.seen: list[dict[str, Tensor]] = []
        self.raise_in_validation_at: int | None = None
        self.on_validate: Callable[[], Any] = lambda: None

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self(batch) - batch.sum(-1, keepdim=True)).square().mean()

    def _look(self) -> None:
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        self.seen.append({name: tensor.detach().clone() for name, tensor in tensors.items()})
        self.on_validate()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._look()
        self.log("val_loss", (self(batch) - batch.sum(-1, keepdim=True)).square().mean())
        if self.raise_in_validation_at is not None and self.global_step >= self.raise_in_validation_at:
            raise RuntimeError("validation failed")

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self._look()

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self._look()
        return self(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.hparams["optimizer"] == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.05)
        return torch.optim.AdamW(self.parameters(), lr=0.05, fused=self.hparams["optimizer"] == "fused")


def batches(count: int = 8, seed: int = 0) -> DataLoader[Any]:
    """The same batches in the same order, each epoch."""
    data = torch.randn(count * 4, 3, generator=torch.Generator().manual_seed(seed))
    return DataLoader(data, batch_size=4)  # type: ignore[arg-type]


class Reference(pl.Callback):
    """The average of all floating-point entries of ``state_dict``, computed from copies, tensor by tensor."""

    def __init__(self, decay: float, every_n_steps: int = 1) -> None:
        self.decay = decay
        self.every = every_n_steps
        self.average: dict[str, Tensor] = {}
        self.last_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.average:
            state = pl_module.state_dict()
            self.average = {k: v.detach().clone() for k, v in state.items() if v.is_floating_point()}
        self.last_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.last_step:
            return
        self.last_step = trainer.global_step
        if (trainer.global_step - 1) % self.every:
            return
        state = pl_module.state_dict()
        for name, average in self.average.items():
            self.average[name] = self.decay * average + (1 - self.decay) * state[name]


def _trainer(*callbacks: pl.Callback, **kwargs: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    settings.update(kwargs)
    return pl.Trainer(callbacks=list(callbacks), **settings)


def _close(left: dict[str, Tensor], right: dict[str, Tensor], atol: float = 1e-6) -> bool:
    return all(torch.allclose(left[name].float(), right[name].float(), atol=atol) for name in right)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
def data() -> Callable[..., DataLoader[Any]]:
    return batches


@pytest.fixture
def reference() -> type[Reference]:
    return Reference


@pytest.fixture
def trainer() -> Callable[..., pl.Trainer]:
    return _trainer


@pytest.fixture
def close() -> Callable[..., bool]:
    return _close

"""Callbacks and data modules with one mistake each; a class's name says in which check."""

import lightning.pytorch as pl
import numpy as np
import torch
from gymnasium import spaces
from torch.utils.data import DataLoader, get_worker_info

from mscore import WindowDataset
from mscore.testing import TinyDataModule


class Right(pl.Callback):
    """Counts steps, and keeps the count."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1
        self.act(trainer, pl_module)

    def act(self, trainer, pl_module):
        pass

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class FitsWrong(Right):
    """Raises."""

    def on_validation_start(self, trainer, pl_module):
        raise RuntimeError("no validation, please")


class WithoutLoggerWrong(Right):
    """Takes a logger for granted."""

    def act(self, trainer, pl_module):
        trainer.logger.log_metrics({"steps": self.steps}, step=self.steps)


class ResumeWrong(Right):
    """Its noise depends on a count that is lost."""

    _count = 0

    def act(self, trainer, pl_module):
        self._count += 1
        with torch.no_grad():
            next(pl_module.parameters()).add_(0.01 * self._count)


class CountsOnWrong(Right):
    """Loses the count."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class OffAgainWrong(Right):
    """Wraps the optimizers' states in checkpoints."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["optimizer_states"] = [{"mine": state} for state in checkpoint["optimizer_states"]]

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["optimizer_states"] = [state["mine"] for state in checkpoint["optimizer_states"]]


class PicklableWrong(Right):
    """Holds a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: x


class RightData(TinyDataModule):
    """The tiny data module.

    Args:
        num_workers: processes that read.
    """

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self):
        return self.training_loader(
            self.train_set, batch_size=self.batch_size, seed=self.seed, num_workers=self.num_workers
        )


class _Pairs(WindowDataset):
    """Episodes of pairs: a vector and a text."""

    def read(self, episode, start, stop):
        frames = np.arange(start, stop)
        vectors = np.stack([frames, frames + episode], -1).astype(np.float32)
        return {"pair": (vectors, [f"frame {frame}" for frame in frames]), "agent_action": frames % 5}


class Pairs(RightData):
    """Observations that are a Tuple space's.

    Args:
        num_workers: processes that read.
    """

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__(num_workers)
        vector = spaces.Box(0, 99, (2,), np.float32)
        self.observation_space = spaces.Dict({"pair": spaces.Tuple([vector, spaces.Text(20)])})

    def setup(self, stage=None):
        self.train_set, self.val_set = (_Pairs([f"{name}-{i}" for i in range(4)], [7, 5, 9, 4], 3) for name in "ab")


class SpacesData(RightData):
    """Declares fewer actions than there are."""

    def prepare_data(self):
        self.declared = spaces.Discrete(2)

    @property
    def action_space(self):
        return getattr(self, "declared", spaces.Discrete(5))

    @action_space.setter
    def action_space(self, value):
        pass

    def setup(self, stage=None):
        declared, self.declared = self.declared, spaces.Discrete(5)
        super().setup(stage)
        self.declared = declared


class BatchesData(RightData):
    """Masks are numbers."""

    def train_dataloader(self):
        loader = super().train_dataloader()
        loader.__class__ = type("Loader", (type(loader),), {"__iter__": self.masked(type(loader))})
        return loader

    @staticmethod
    def masked(base):
        def iterate(loader):
            for batch in base.__iter__(loader):
                yield {**batch, "mask": batch["mask"].float()}

        return iterate


class OrderData(RightData):
    """Draws its order from torch's generator, once."""

    def setup(self, stage=None):
        if not hasattr(self, "drawn"):
            self.drawn = int(torch.randint(1000, ()))
        super().setup(stage)

    def train_dataloader(self):
        return self.training_loader(self.train_set, batch_size=2, seed=self.drawn, num_workers=self.num_workers)


class ResumeData(RightData):
    """A plain loader, which begins again."""

    def setup(self, stage=None):
        super().setup(stage)
        self.batches = [self.train_set[index] for index in range(6)]

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None, collate_fn=dict, num_workers=self.num_workers)


class SetupTwiceData(RightData):
    """Another order after every `setup`."""

    times = 0

    def setup(self, stage=None):
        self.times += 1
        super().setup(stage)

    def train_dataloader(self):
        return self.training_loader(self.train_set, batch_size=2, seed=self.times, num_workers=self.num_workers)


class _Shifted:
    def __init__(self, dataset):
        self.dataset = dataset
        self.windows = dataset.windows

    def __len__(self):
        return len(self.dataset)

    def __getitems__(self, indices):
        batch = self.dataset.__getitems__(indices)
        info = get_worker_info()
        return batch if info is None else {**batch, "image": batch["image"] + info.id + 1}


class WorkersData(RightData):
    """Each worker reads something else."""

    def train_dataloader(self):
        return self.training_loader(
            _Shifted(self.train_set), batch_size=self.batch_size, seed=0, num_workers=self.num_workers
        )

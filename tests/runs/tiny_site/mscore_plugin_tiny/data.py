import lightning.pytorch as pl
import numpy as np
import torch
from gymnasium import spaces
from torch.utils.data import DataLoader, Dataset


class TinyData(pl.LightningDataModule):
    """CartPole's observations with the action of a rule: push where the pole falls.

    Args:
        windows: how many.
        win_len: frames of a window.
        batch_size: rows of a batch.
        actions: size of the action space.
        marker: file that is made by preparing the data.
    """

    def __init__(
        self, windows: int = 64, win_len: int = 4, batch_size: int = 8, actions: int = 2, marker: str | None = None
    ):
        super().__init__()
        self.windows, self.win_len, self.batch_size = windows, win_len, batch_size
        self.actions, self.marker = actions, marker

    def prepare_data(self):
        high = np.array([4.8, np.inf, 0.41887903, np.inf], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, (4,), np.float32)
        self.action_space = spaces.Discrete(self.actions)
        if self.marker:
            open(self.marker, "a").close()

    def train_dataloader(self):
        return DataLoader(_Windows(self.windows, self.win_len), batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(_Windows(self.batch_size, self.win_len), batch_size=self.batch_size)


class _Windows(Dataset):
    def __init__(self, windows, win_len):
        generator = torch.Generator().manual_seed(1)
        self.frames = torch.randn(windows, win_len, 4, generator=generator) * 0.1

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        frames = self.frames[index]
        return {
            "image": frames,
            "agent_action": (frames[:, 2] + frames[:, 3] > 0).long(),
            "mask": torch.ones(len(frames), dtype=torch.bool),
        }

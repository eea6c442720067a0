"""Long trajectories as windows: which window comes when, what a batch holds, and exact resuming."""

from mscore.trajectories.datamodule import ResumableDataModule
from mscore.trajectories.sampler import EpisodeBatchSampler
from mscore.trajectories.windows import IDLE, WindowDataset, Windows

__all__ = ["IDLE", "EpisodeBatchSampler", "ResumableDataModule", "WindowDataset", "Windows"]

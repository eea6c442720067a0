"""Long trajectories as windows: which window comes when, what a batch holds, and exact resuming."""

from mscore.trajectories.datamodule import ResumableDataModule
from mscore.trajectories.sampler import EpisodeBatchSampler
from mscore.trajectories.window_sampler import WindowBatchSampler
from mscore.trajectories.windows import IDLE, IDLE_EPISODE, BatchDataset, WindowDataset, Windows

__all__ = [
    "IDLE",
    "IDLE_EPISODE",
    "BatchDataset",
    "EpisodeBatchSampler",
    "ResumableDataModule",
    "WindowBatchSampler",
    "WindowDataset",
    "Windows",
]

"""The plugin held against the contracts."""

from pathlib import Path

from mscore.testing import conformance

DATASET = Path(__file__).parent / "golden" / "minestudio" / "dataset"
SMALL = {"dataset_dirs": [str(DATASET)], "frame_width": 24, "frame_height": 16, "win_len": 8, "batch_size": 2}
CONTINUOUS = {**SMALL, "skip_frame": 2, "episode_continuous_batch": True, "split_ratio": 0.7, "shuffle_episodes": True}

test_conformance = conformance("mscore-plugin-minestudio", samples={"datamodule/minestudio": CONTINUOUS})

"""The plugin held against the contracts."""

from pathlib import Path

from mscore.testing import conformance

SAMPLE = {
    "dataset_id": "minigrid/bot-v0",
    "root": str(Path(__file__).with_name("golden")),
    "win_len": 4,
    "batch_size": 2,
    "split_ratio": 0.7,
}

test_conformance = conformance("mscore-plugin-minari", samples={"datamodule/minari": SAMPLE})

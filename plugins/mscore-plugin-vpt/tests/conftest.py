"""A small VPT, windows for it, and what MineStudio's own gave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_vpt import VPTPolicy

FOLDER = Path(__file__).parent / "golden"
ACTIONS = spaces.Dict({"camera": spaces.MultiDiscrete([121]), "buttons": spaces.MultiDiscrete([33])})
TINY = {
    "attention_heads": 2,
    "attention_memory_size": 12,
    "hidsize": 32,
    "img_shape": [32, 32, 3],
    "impala_chans": [4, 8, 8],
    "impala_kwargs": {"post_pool_groups": 1},
    "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1},
    "n_recurrence_layers": 2,
    "timesteps": 4,
    "use_pre_lstm_ln": False,
}


@pytest.fixture
def tiny():
    """Arguments of a network of 32 x 32 pixels that remembers eight frames."""
    return dict(TINY)


@pytest.fixture
def small():
    """Makes a policy of that size, in evaluation mode."""

    def make(action_space=ACTIONS, seed=0, temperature=2.0, nucleus_prob=None, **policy_kwargs):
        torch.manual_seed(seed)
        return VPTPolicy({**TINY, **policy_kwargs}, action_space, temperature, nucleus_prob).eval()

    return make


@pytest.fixture
def window():
    """Makes a batch of B windows of T frames, with actions."""

    def make(rows=2, steps=4, pixels=32, seed=0, start=0):
        random = torch.Generator().manual_seed(seed)

        def integers(high, *shape, dtype=torch.int64):
            return torch.randint(0, high, (rows, steps, *shape), generator=random, dtype=dtype)

        return {
            "image": integers(256, pixels, pixels, 3, dtype=torch.uint8),
            "first": torch.zeros(rows, steps, dtype=torch.bool),
            "agent_action": {"buttons": integers(33, 1), "camera": integers(121, 1)},
            "mask": torch.ones(rows, steps, dtype=torch.bool),
            "episode": [f"episode-{seed}-{row}" for row in range(rows)],
            "timestamp": torch.arange(start, start + steps).repeat(rows, 1),
        }

    return make


class Golden:
    """A golden file: arrays by name as tensors, settings by name."""

    def __init__(self, name):
        with np.load(FOLDER / name) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}

    def __contains__(self, name):
        return name in self.arrays

    def __getitem__(self, name):
        return torch.from_numpy(np.array(self.arrays[name]))

    def get(self, name):
        return self[name] if name in self.arrays else None

    def settings(self, name="meta_json"):
        return json.loads(bytes(self.arrays[name]))

    def under(self, prefix):
        return {name.removeprefix(prefix): self[name] for name in self.arrays if name.startswith(prefix)}

    def list(self, prefix):
        return list(self.under(prefix).values())


@pytest.fixture(scope="session")
def golden():
    """Reads a golden file by its name."""
    return Golden


@pytest.fixture(scope="session")
def checkpoints():
    """The folder of checkpoints in others' layouts."""
    return FOLDER / "ckpt"

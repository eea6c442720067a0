"""A small ROCKET-1, windows for it, and what MineStudio's own gave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_rocket import RocketPolicy

GOLDEN = Path(__file__).parent / "golden" / "rocket_vit.npz"
ACTIONS = spaces.Dict({"camera": spaces.MultiDiscrete([121]), "buttons": spaces.MultiDiscrete([33])})
SMALL = {"hiddim": 32, "num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8, "pretrained": False}


@pytest.fixture
def small():
    """Makes a policy on a small convolutional network, in evaluation mode."""

    def make(backbone="test_resnet.r160_in1k", **arguments):
        torch.manual_seed(0)
        return RocketPolicy(backbone, **{**SMALL, "action_space": ACTIONS, **arguments}).eval()

    return make


@pytest.fixture
def window():
    """Makes a batch of B windows of T frames, with actions."""

    def make(rows=2, steps=4, pixels=64, seed=0, start=0):
        random = torch.Generator().manual_seed(seed)

        def integers(low, high, *shape, dtype=torch.int64):
            return torch.randint(low, high, (rows, steps, *shape), generator=random, dtype=dtype)

        return {
            "image": integers(0, 256, pixels, pixels, 3, dtype=torch.uint8),
            "segmentation": {
                "obj_mask": integers(0, 2, pixels, pixels, dtype=torch.uint8),
                "obj_id": integers(-1, 7),
            },
            "first": torch.zeros(rows, steps, dtype=torch.bool),
            "agent_action": {"buttons": integers(0, 33, 1), "camera": integers(0, 121, 1)},
            "mask": torch.ones(rows, steps, dtype=torch.bool),
            "episode": [f"episode-{seed}-{row}" for row in range(rows)],
            "timestamp": torch.arange(start, start + steps).repeat(rows, 1),
        }

    return make


class Golden:
    """Inputs, weights and outputs of MineStudio's policy."""

    def __init__(self):
        with np.load(GOLDEN) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.meta = json.loads(bytes(self.arrays["meta_json"]))

    def __getitem__(self, name):
        return torch.from_numpy(np.array(self.arrays[name]))

    def state_dict(self):
        return {name[3:]: self[name] for name in self.arrays if name.startswith("sd/")}

    def policy(self):
        policy = RocketPolicy(
            self.meta["backbone"], **self.meta["cfg"], action_space=ACTIONS, nucleus_prob=0.85, pretrained=False
        )
        policy.load_state_dict(self.state_dict())
        return policy.eval()

    def input(self, chunk):
        key = "segmentation" if chunk == 2 else "segment"  # both names occur
        prefix = f"chunk{chunk}"
        segmentation = {name: self[f"{prefix}/segment/{name}"] for name in ("obj_mask", "obj_id")}
        return {"image": self[f"{prefix}/image"], "first": self[f"{prefix}/first"], key: segmentation}

    def state(self, chunk):
        return [self[f"chunk{chunk}/state_out/{index}"] for index in range(6)]

    def action(self, chunk):
        return {name: self[f"chunk{chunk}/action/{name}"] for name in ("buttons", "camera")}


@pytest.fixture(scope="session")
def golden():
    """What MineStudio's policy gave."""
    return Golden()

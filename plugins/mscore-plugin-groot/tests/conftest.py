"""A small GROOT, windows and reference videos for it, and what MineStudio's own gave."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_groot import GrootPolicy

GOLDEN = Path(__file__).parent / "golden" / "groot_vit.npz"
ACTIONS = spaces.Dict({"camera": spaces.MultiDiscrete([121]), "buttons": spaces.MultiDiscrete([33])})
SMALL = {
    "hiddim": 32,
    "video_encoder_kwargs": {"num_spatial_layers": 1, "num_temporal_layers": 1, "num_heads": 4},
    "image_encoder_kwargs": {"num_layers": 1, "num_heads": 4},
    "decoder_kwargs": {"num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8},
    "pretrained": False,
}


@pytest.fixture
def small():
    """Makes a policy on a small convolutional network, in evaluation mode."""

    def make(backbone="test_resnet.r160_in1k", **arguments):
        torch.manual_seed(0)
        return GrootPolicy(backbone, **{**SMALL, "action_space": ACTIONS, **arguments}).eval()

    return make


@pytest.fixture
def window():
    """Makes a batch of B windows of T frames, with actions."""

    def make(rows=2, steps=4, pixels=64, seed=0):
        random = torch.Generator().manual_seed(seed)

        def integers(high, *shape, dtype=torch.int64):
            return torch.randint(0, high, (rows, steps, *shape), generator=random, dtype=dtype)

        return {
            "image": integers(256, pixels, pixels, 3, dtype=torch.uint8),
            "first": torch.zeros(rows, steps, dtype=torch.bool),
            "agent_action": {"buttons": integers(33, 1), "camera": integers(121, 1)},
            "mask": torch.ones(rows, steps, dtype=torch.bool),
            "episode": [f"episode-{seed}-{row}" for row in range(rows)],
            "timestamp": torch.arange(steps).repeat(rows, 1),
        }

    return make


@pytest.fixture
def video(tmp_path):
    """Writes a video of colours that a seed decides, and gives its path."""

    def write(seed=0, frames=6, name=None):
        path = tmp_path / (name or f"reference-{seed}.mp4")
        random = np.random.default_rng(seed)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=20)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for _ in range(frames):
                picture = random.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return str(path)

    return write


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
        policy = GrootPolicy(self.meta["backbone"], **self.meta["cfg"], action_space=ACTIONS, pretrained=False)
        policy.load_state_dict(self.state_dict())
        return policy.eval()

    def input(self, chunk):
        return {"image": self[f"chunk{chunk}/image"], "first": self[f"chunk{chunk}/first"]}

    def state(self, chunk):
        return [self[f"chunk{chunk}/state_out/{index}"] for index in range(6)]

    def action(self, chunk):
        return {name: self[f"chunk{chunk}/action/{name}"] for name in ("buttons", "camera")}


@pytest.fixture(scope="session")
def golden():
    """What MineStudio's policy gave."""
    return Golden()

"""The plugin held against the contracts."""

import numpy as np
from gymnasium import spaces

from mscore.testing import Sample, conformance

SEEN = spaces.Dict(
    {
        "image": spaces.Box(0, 255, (64, 64, 3), np.uint8),
        "segmentation": spaces.Dict(
            {"obj_mask": spaces.Box(0, 1, (64, 64), np.uint8), "obj_id": spaces.Discrete(8, start=-1)}
        ),
    }
)
SMALL = {
    "backbone": "test_resnet.r160_in1k",
    "hiddim": 32,
    "num_heads": 4,
    "num_layers": 2,
    "timesteps": 4,
    "mem_len": 8,
    "pretrained": False,
}

test_conformance = conformance("mscore-plugin-rocket", samples={"policy/rocket": Sample(SMALL, observation_space=SEEN)})

"""The plugin held against the contracts."""

import numpy as np
from gymnasium import spaces

from mscore.testing import Sample, conformance

SEEN = spaces.Dict({"image": spaces.Box(0, 255, (32, 32, 3), np.uint8)})
TINY = {
    "policy_kwargs": {
        "attention_heads": 2,
        "attention_memory_size": 12,
        "hidsize": 32,
        "img_shape": [32, 32, 3],
        "impala_chans": [4, 8, 8],
        "impala_kwargs": {"post_pool_groups": 1},
        "init_norm_kwargs": {"group_norm_groups": 1},
        "n_recurrence_layers": 2,
        "timesteps": 4,
    }
}

test_conformance = conformance("mscore-plugin-vpt", samples={"policy/vpt": Sample(TINY, observation_space=SEEN)})

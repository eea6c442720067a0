"""The plugin held against the contracts."""

from mscore.testing import Sample, conformance

SMALL = {"max_steps": 64, "num_envs": 2, "fragment_length": 8, "batch_size_per_gpu": 1, "batches_per_iteration": 2}

test_conformance = conformance("mscore-plugin-ppo", samples={"trainer/ppo": lambda folder: Sample(SMALL)})

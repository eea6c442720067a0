"""The plugin held against the contracts."""

import torch

from mscore import MinePolicy
from mscore.testing import Sample, TinyPolicy, conformance


def _reference(seed: int = 17) -> MinePolicy:
    torch.manual_seed(seed)
    return TinyPolicy()


test_conformance = conformance(
    "mscore-plugin-kl",
    samples={"objective/reference-kl": lambda folder: Sample({"reference_policy": _reference()})},
)

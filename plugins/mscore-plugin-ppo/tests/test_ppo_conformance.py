"""The plugin held against the contracts."""

from mscore.testing import conformance

test_conformance = conformance("mscore-plugin-ppo")

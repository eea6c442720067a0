"""The plugin held against the contracts."""

from mscore.testing import conformance

test_conformance = conformance("mscore-plugin-ema", samples={"callback/ema": {"decay": 0.9}})

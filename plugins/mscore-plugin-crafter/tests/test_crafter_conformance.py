"""The plugin held against the contracts."""

from mscore.testing import conformance

SMALL = {"length": 30, "area": [24, 24]}

test_conformance = conformance("mscore-plugin-crafter", samples={"environment/crafter": lambda folder: SMALL})

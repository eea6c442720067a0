"""The plugin held against the contracts."""

from mscore.testing import conformance

test_conformance = conformance("mscore-plugin-smart-ckpt", samples={"callback/smart-ckpt": {"every_n_train_steps": 2}})

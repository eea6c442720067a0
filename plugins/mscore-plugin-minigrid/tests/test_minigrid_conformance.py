"""The plugin held against the contracts."""

from mscore.testing import conformance


def _few(folder):
    return {"episodes": 6, "root": str(folder / "demonstrations"), "win_len": 4, "batch_size": 2, "processes": 1}


test_conformance = conformance("mscore-plugin-minigrid", samples={"datamodule/minigrid": _few})

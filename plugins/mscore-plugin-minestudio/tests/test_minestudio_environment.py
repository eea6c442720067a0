"""The environment without the package ``minestudio``; with it, see the repository's integration tests."""

import importlib.util
import pickle
import sys

import pytest
from mscore_plugin_minestudio import MineStudioEnvironment

import mscore
from mscore import ConfigError, MscoreError
from mscore.config import build

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("minestudio") is not None, reason="the package minestudio is installed"
)


def test_the_package_is_needed_when_an_environment_is_made():
    factory = pickle.loads(pickle.dumps(MineStudioEnvironment(task="collect_wood")))
    with pytest.raises(MscoreError, match=r"pip install \"mscore-plugin-minestudio\[simulator\]\", then python -m"):
        factory.make()
    assert "minestudio" not in sys.modules


def test_a_package_that_lacks_something_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / "minestudio" / "simulator").mkdir(parents=True)
    for name in ("__init__.py", "simulator/__init__.py"):
        (tmp_path / "minestudio" / name).touch()
    (tmp_path / "minestudio" / "simulator" / "entry.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(MscoreError, match=r"cannot be imported .*no_such_package"):
            MineStudioEnvironment().make()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "minestudio"]:
            del sys.modules[name]


def config(**environment):
    environment = {"use": "minestudio", **environment}
    return {"policy": {"use": "recurrent"}, "environment": environment, "trainer": {"max_steps": 1}}


def test_a_config_says_what_the_simulator_takes():
    reward = {"event": "mine_block", "identity": "wood", "objects": ["oak_log"], "reward": 1.0, "max_reward_times": 8}
    made = build(
        mscore.config.load_config(
            config(
                obs_size=[128, 96],
                callbacks={"RewardsCallback": {"reward_cfg": [reward]}, "SpeedTestCallback": None},
                camera_config={"camera_binsize": 1},
            )
        ).environment
    )
    assert list(made.callbacks) == ["RewardsCallback", "SpeedTestCallback"]
    assert made.callbacks["RewardsCallback"]["reward_cfg"] == [reward]
    assert (*made.obs_size,) == (128, 96)
    assert made.camera_config == {"camera_binsize": 1}


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ({"action_type": "agnt"}, "environment.action_type"),
        ({"obs_size": [0, 64]}, "environment.obs_size"),
        ({"calbacks": {}}, r"Did you mean 'environment\.callbacks'"),
    ],
)
def test_mistakes_are_said_before_anything_is_imported(parameter, text):
    with pytest.raises(ConfigError, match=text):
        mscore.run(config(**parameter))

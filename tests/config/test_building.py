"""From selections to components."""

from datetime import timedelta
from pathlib import Path

import pytest

from mscore.config import Selection, build, build_arguments, load_config
from mscore.errors import ConfigError, PluginError


@pytest.fixture
def make(plugins):
    def make(kind, use, injected=None, **parameters):
        return build(Selection(kind, kind, use, parameters, f"the.{kind}", "config.yaml:3"), plugins, injected)

    return make


def test_values_arrive_as_their_annotations_say(make, parts):
    walker = make(
        "policy",
        "walker",
        {"observation_space": "seen", "action_space": "done", "run": "not asked for"},
        sizes=[1, 2],
        weights="a/b",
        color="blue",
        timeout="00:30:00",
        dropout=0,
        limit=3,
        items=[1],
    )
    given = walker.given
    assert given["sizes"] == (1, 2)
    assert given["weights"] == Path("a/b")
    assert given["color"] is parts.Color.BLUE
    assert given["timeout"] == timedelta(minutes=30)
    assert (given["dropout"], type(given["dropout"])) == (0.0, float)
    assert (given["limit"], type(given["limit"])) == (3, int)
    assert list(given["items"]) == [1]
    assert (given["observation_space"], given["action_space"]) == ("seen", "done")
    assert given["hiddim"] == 64


def test_only_what_the_config_says_is_passed(plugins):
    selection = Selection("objective", "bc", "bc", {"weight": 2}, "objectives.bc")
    target, arguments = build_arguments(selection, plugins, {"run": 1, "observation_space": 2})
    assert (target.__name__, arguments) == ("Cloning", {"weight": 2.0})


def test_what_is_needed_and_not_there_is_named(make):
    with pytest.raises(ConfigError) as caught:
        make("policy", "walker", {"action_space": 1})
    assert caught.value.problems == [
        "config.yaml:3: the.policy.observation_space: is needed by policy 'walker', and this run does not have it"
    ]


def test_nested_components_are_built(make, parts):
    teacher = make("objective", "teacher", environment="maze", more=[{"use": "maze", "size": 9}, None], named="maze")
    assert isinstance(teacher.given["environment"], parts.Maze)
    assert teacher.given["more"][0].size == 9
    assert teacher.given["more"][1] is None
    assert teacher.given["named"] == "maze"
    extended = make("objective", "teacher", environment="maze", named={"use": "maze", "size": 2})
    assert extended.given["named"].size == 2


def test_kwargs_reach_their_receivers(make):
    assert make("callback", "forward", extra=1, patience=5).given == {"monitor": "loss", "patience": 5, "extra": 1}
    assert make("callback", "free", known=1, other=[2]).given == {"known": 1, "other": [2]}


def test_optimizers_and_schedulers_get_what_the_core_supplies(make):
    params = [object()]
    assert make("optimizer", "plain", {"params": params}, learning_rate=1).given == {
        "parameters": params,
        "learning_rate": 1.0,
    }
    assert make("optimizer", "factory", {"params": params}).given["parameters"] is params
    assert make("scheduler", "flat", {"optimizer": "o"}, steps=3).given == {"optimizer": "o", "steps": 3}


def test_environments_become_factories(make, parts):
    assert isinstance(make("environment", "maze", size=4), parts.Maze)
    plain = make("environment", "plain-maze", size=4)
    assert plain.make() == (4, None)
    assert plain.make("rgb_array") == (4, "rgb_array")


def test_a_constructor_that_raises_is_told_in_one_line(make):
    with pytest.raises(ConfigError) as caught:
        make("objective", "raises", decay=2)
    assert caught.value.problems == [
        "config.yaml:3: the.objective: objective 'raises' of mscore-plugin-parts 1.2 cannot be built: "
        "ValueError: decay is 2.0 but lies in [0, 1]"
    ]
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert "while building the.objective" in cause.__notes__[0]


def test_wrong_parameters_never_reach_the_constructor(make):
    with pytest.raises(ConfigError) as caught:
        make("objective", "raises", decay="x", dekay=1)
    assert [line.partition(": found")[0].partition(": unknown")[0] for line in caught.value.problems] == [
        "config.yaml:3: the.objective.dekay",
        "config.yaml:3: the.objective.decay",
    ]


def test_an_unknown_component(make):
    with pytest.raises(PluginError, match="unknown objective 'kll'"):
        make("objective", "kll")


def test_the_bundled_optimizer_is_built_from_a_config(plugins):
    import torch

    config = load_config({"policy": "walker", "optimizer": {"learning_rate": 1e-3}}, plugins=plugins)
    optimizer = build(config.optimizer, plugins, {"params": [torch.nn.Parameter(torch.ones(1))]})
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 1e-3

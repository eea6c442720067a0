"""``a.b=value`` on the command line."""

import pytest

from mscore.config import load_config

BASE = """\
policy: walker
objectives:
  bc: {weight: 1.0}
callbacks:
  ema: {decay: 0.5}
data: {use: frames, win_len: 4, dataset_dirs: [a, b]}
"""


@pytest.fixture
def load(plugins, here):
    def load(*overrides):
        here("config.yaml", BASE)
        return load_config("config.yaml", overrides, plugins=plugins)

    return load


def test_values_are_yaml(load):
    config = load(
        "objectives.bc.weight=1e-3", "policy.sizes=[1, 2]", "seed=5", "name=x", "policy.title='5'", "policy.flag=true"
    )
    assert config.objectives[0].parameters == {"weight": 1e-3}
    assert config.policy.parameters == {"sizes": [1, 2], "title": "5", "flag": True}
    assert (config.seed, config.name) == (5, "x")


def test_a_bare_name_can_be_extended_replaced_and_renamed(load):
    assert load("policy.hiddim=64").policy.to_config() == {"use": "walker", "hiddim": 64}
    assert load("policy=hidden-walker").policy.to_config() == {"use": "hidden-walker"}
    assert load("policy.use=hidden-walker").policy.use == "hidden-walker"
    for order in (1, -1):
        overrides = ["policy.hiddim=64", "policy.use=hidden-walker"][::order]
        assert load(*overrides).policy.to_config() == {"use": "hidden-walker", "hiddim": 64}


def test_the_later_of_two_equal_keys_wins(load):
    assert load("seed=1", "seed=2").seed == 2


def test_labels_are_added_and_removed(load):
    config = load("objectives.kl.weight=0.5", "callbacks.ema=null", "callbacks.slow.use=ema", "callbacks.fast=ema")
    assert [(o.label, o.use, o.parameters) for o in config.objectives] == [
        ("bc", "bc", {"weight": 1.0}),
        ("kl", "kl", {"weight": 0.5}),
    ]
    assert [(c.label, c.use) for c in config.callbacks] == [("slow", "ema"), ("fast", "ema")]


def test_sections_are_added_and_removed(load):
    assert load("environment=maze", "environment.size=5").environment.to_config() == {"use": "maze", "size": 5}
    assert load("data=null").data is None
    assert load("objectives=null").objectives == ()


def test_items_of_lists(load):
    assert load("data.dataset_dirs[1]=c").data.parameters["dataset_dirs"] == ["a", "c"]
    deep = load("policy.rows=[{a: [1, 2]}, 3]", "policy.rows[0].a[1]=5").policy.parameters
    assert deep == {"rows": [{"a": [1, 5]}, 3]}


def test_a_nested_component_that_is_a_bare_name_can_be_extended(load):
    config = load("data.environment=maze", "data.environment.size=9")
    assert config.data.parameters["environment"] == {"use": "maze", "size": 9}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "objectives.bc.wieght=0.5",
            "objectives.bc.wieght: unknown parameter, expected one of: reduction, weight."
            " Did you mean 'objectives.bc.weight'?",
        ),
        ("objectivs.bc.weight=0.5", "objectivs: unknown section, expected one of: name,"),
        ("objectives.bcc.weight=0.5", "objectives.bcc: unknown objective 'bcc'. Did you mean 'bc'?"),
        (
            "callbacks.emaa=null",
            "callbacks.emaa: null removes a component, and none has this label (there are: ema). Did you mean 'ema'?",
        ),
        ("policy=wakler", "policy: unknown policy 'wakler'. Did you mean 'walker'"),
        ("seed=-1", "seed: found -1 (integer), expected an integer from 0"),
        ("optimizer.lr=1e-3", "optimizer.lr: unknown parameter, expected one of:"),
        ("data.dataset_dirs[2]=c", "data.dataset_dirs has 2 items, there is no [2]"),
        ("data.win_len[0]=c", "data.win_len is 4 (integer), not a list"),
        ("seed", "expected key=value, such as trainer.max_steps=100"),
        ("seed=", "has no value; write seed=null for none, seed='\"\"' for empty text"),
        ("+seed=1", "needs no prefix; write seed=1"),
        ("~callbacks.ema", "needs no prefix; write callbacks.ema=null"),
        ("--seed=1", "needs no prefix; write seed=1"),
        ("a..b=1", "'a..b' is no dotted path"),
        ("=1", "'' is no dotted path"),
        ("[0]=1", "'[0]' is no dotted path"),
        ("defaults=[x.yaml]", "defaults can be written in files only"),
        ("name=[1", "not YAML: "),
        ("name=!!python/name:os.system", "name: the tag !!python/name:os.system is refused"),
        ("policy._target_=os.system", "policy._target_: a config names registered components only"),
        ("stages[0].seed=1", "stages is null, not a list"),
    ],
)
def test_a_mistake_is_one_line_that_quotes_the_override(problems, override, said):
    (line,) = problems(BASE, override, parameters="lr" in override or "wieght" in override)
    assert line.startswith(f"override {override}: {said}")


def test_all_overrides_are_checked(problems):
    assert len(problems(BASE, "sed=1", "objectives.bc", "polic=x", parameters=False)) == 3

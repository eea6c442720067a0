"""Pass one: sections, labels, names and settings."""

import json
import pickle

import pytest

from mscore.config import load_config
from mscore.errors import ConfigError

FULL = """
name: groot
seed: 3
log_freq: 5
policy: {use: walker, hiddim: 32}
data: {use: frames, win_len: 128}
objectives:
  bc: {weight: 1.0}
  second: {use: bc, weight: 0.5}
  kl:
    {}
optimizer: {learning_rate: 4.0e-5}
callbacks:
  ema: {decay: 0.999}
  slow: ema
loggers:
  notes: {}
environment: maze
evaluation: {episodes: 7, every_n_steps: 100}
init_from: runs/groot
"""


@pytest.fixture
def load(plugins, here):
    def load(text, *overrides):
        here("config.yaml", text)
        return load_config("config.yaml", overrides, plugins=plugins)

    return load


def test_every_section_becomes_selections_and_settings(load):
    config = load(FULL)
    assert (config.name, config.seed, config.log_freq, config.init_from) == ("groot", 3, 5, "runs/groot")
    assert (config.policy.kind, config.policy.use, config.policy.parameters) == ("policy", "walker", {"hiddim": 32})
    assert config.policy.origin == "config.yaml:5"
    assert config.data.kind == "datamodule"
    assert [(o.label, o.use, o.path) for o in config.objectives] == [
        ("bc", "bc", "objectives.bc"),
        ("second", "bc", "objectives.second"),
        ("kl", "kl", "objectives.kl"),
    ]
    assert config.optimizer.parameters == {"learning_rate": 4e-5}
    assert [(c.label, c.use) for c in config.callbacks] == [("ema", "ema"), ("slow", "ema")]
    assert (config.environment.use, config.environment.label) == ("maze", "environment")
    assert (config.evaluation.episodes, config.evaluation.every_n_steps) == (7, 100)
    assert (config.evaluation.seed, config.evaluation.deterministic, config.evaluation.at_start) == (10**6, True, True)
    assert [s.path for s in config.selections()] == [
        *("policy", "data", "objectives.bc", "objectives.second", "objectives.kl"),
        *("optimizer", "scheduler", "trainer", "callbacks.ema", "callbacks.slow"),
        *("loggers.csv", "loggers.notes", "environment"),
    ]


def test_a_config_needs_a_policy_and_nothing_else(load):
    config = load("policy: walker")
    assert (config.name, config.seed, config.log_freq) == ("config", 0, 20)
    assert (config.optimizer.use, config.scheduler.use, config.trainer.use) == ("adamw", "linear-warmup", "offline")
    assert [logger.use for logger in config.loggers] == ["csv"]
    assert config.data is config.environment is config.evaluation is config.init_from is None
    assert config.objectives == config.callbacks == config.stages == ()


def test_a_resolved_config_makes_the_same_config_again(load, plugins, here):
    config = load(FULL, "loggers.csv=null", "name=again")
    assert [logger.label for logger in config.loggers] == ["notes"]
    assert load_config(config.resolved, plugins=plugins) == config
    here("stored.yaml", config.to_yaml())
    assert load_config("stored.yaml", plugins=plugins) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_text_stays_text_through_yaml(load, plugins, here):
    texts = ["1e-5", "1.5", "007", "no", "null", "2020-01-01", "1:30", "a: b", "${data.win_len}", "???!", "ä", ""]
    config = load("policy: {use: walker, names: " + json.dumps(texts).replace("${", "\\\\${") + "}")
    assert config.policy.parameters["names"] == texts
    here("stored.yaml", config.to_yaml())
    assert load_config("stored.yaml", plugins=plugins).policy.parameters["names"] == texts


def test_numbers_are_read_as_their_writer_meant_them(load):
    written = {
        **{"1e-5": 1e-5, "4.0e-5": 4e-5, "1_000": 1000, "-.5": -0.5, "0x10": 16, ".inf": float("inf"), "1.": 1.0},
        **{"2E3": 2000.0, "+3": 3, "yes": True, "007": "007", "1:30": "1:30", "2020-01-01": "2020-01-01", "": None},
    }
    config = load("policy:\n  use: walker\n" + "".join(f"  p{i}: {text}\n" for i, text in enumerate(written)))
    values = list(config.policy.parameters.values())
    assert values == list(written.values())
    assert [type(value) for value in values] == [type(value) for value in written.values()]


def test_all_mistakes_are_told_at_once_with_their_lines(problems):
    found = problems(
        """\
polcy: walker
seed: -1
name: ../up
log_freq: true
objectives:
  bbc: {weight: 1}
  kl: [1]
callbacks: [ema]
evaluation: {episodes: 0, determinstic: true, every_n_steps: x}
init_from: 3
trainer: null
loggers:
  csv: {_target_: os.system}
scheduler: null
"""
    )
    expected = [
        "config.yaml:1: polcy: unknown section, expected one of: name,",
        "config.yaml:2: seed: found -1 (integer), expected an integer from 0 to 4294967295",
        "config.yaml:3: name: found '../up' (text), expected letters",
        "config.yaml:4: log_freq: found true (boolean), expected an integer of at least 1",
        "config.yaml:6: objectives.bbc: unknown objective 'bbc'. Did you mean 'bc'?",
        "config.yaml:7: objectives.kl: found a list (1), expected an objective's name or a mapping",
        "config.yaml:8: callbacks: found a list (ema), expected labels with their parameters, such as `ema: {}`",
        "config.yaml:9: evaluation.determinstic: unknown setting",
        "config.yaml:9: evaluation.episodes: found 0 (integer), expected an integer of at least 1",
        "config.yaml:9: evaluation.every_n_steps: found 'x' (text), expected an integer of at least 1",
        "config.yaml:9: evaluation: rollouts need an environment",
        "config.yaml:10: init_from: found 3 (integer), expected a run",
        "config.yaml:11: trainer: found null, expected a trainer's name",
        "config.yaml:13: loggers.csv._target_: a config names registered components only",
        "config.yaml:14: scheduler: found null, expected a scheduler's name or a mapping of its parameters; `{",
        "config.yaml: policy: missing section",
    ]
    for line in expected:
        assert sum(one.startswith(line) for one in found) == 1, (line, found)
    assert len(found) == len(expected)
    assert all("\n" not in line for line in found)
    assert "Did you mean 'policy'?" in found[0]


@pytest.mark.parametrize("use", ["torch.optim:AdamW", "os.system", "config_parts:Walker", "a.b.C"])
def test_import_strings_are_no_names(problems, use):
    (line,) = problems(f"policy: {use!r}")
    assert line.startswith(f"config.yaml:1: policy: found {use!r} (text): a config names registered components only")


def test_names_can_be_qualified(load):
    config = load(
        "policy: parts/walker\noptimizer: mscore/adamw\nobjectives: {mine: mscore-plugin-parts/bc, parts/kl: {}}"
    )
    assert config.policy.use == "parts/walker"
    assert [o.use for o in config.objectives] == ["mscore-plugin-parts/bc", "parts/kl"]


def test_a_label_without_value_is_no_silent_removal(problems):
    (line,) = problems("policy: walker\nobjectives:\n  bc: {}\ncallbacks:\n  ema:\n")
    assert line.startswith("config.yaml:5: callbacks.ema: null removes a component")
    assert "write ema: {}" in line


def test_use_can_be_missing_only_where_a_label_says_it(problems):
    (line,) = problems("policy: {hiddim: 3}")
    assert line == "config.yaml:1: policy.use: missing: which policy? Write `use: NAME`"


def test_a_component_name_must_be_text(problems):
    assert problems("policy: {use: 3}") == [
        "config.yaml:1: policy.use: found 3 (integer), expected the name of a policy"
    ]


def test_labels_are_text_that_a_path_can_hold(problems):
    assert problems("policy: walker\ncallbacks: {2: ema, true: {}}\nobjectives: {a.b: bc}", parameters=False) == [
        "config.yaml:3: objectives.a.b: found the label 'a.b', expected letters, digits, - and _",
        "config.yaml:2: callbacks.2: found the label 2 (integer), a label is text: quote it",
        "config.yaml:2: callbacks.True: found the label true (boolean), a label is text: quote it",
    ]


def test_a_broken_plugin_is_named_when_it_is_needed(plugins, here):
    import types

    broken = types.ModuleType("broken")
    broken.mscore_policies = lambda: {}
    assert plugins.add_module(broken, "runner", "mscore-plugin-runner", "0.3").status == "broken"
    with pytest.raises(ConfigError, match=r"mscore-plugin-runner 0\.3 is installed but broken"):
        load_config({"policy": "runner"}, plugins=plugins)


def test_a_mapping_from_python_is_left_as_it_is(plugins, tmp_path):
    source = {"policy": {"use": "walker", "weights": tmp_path, "sizes": (1, 2)}, "defaults": []}
    config = load_config(source, ["policy.sizes[0]=5"], plugins=plugins)
    assert config.policy.parameters == {"weights": str(tmp_path), "sizes": [5, 2]}
    assert config.name == "run"
    assert source["policy"]["sizes"] == (1, 2)
    assert "defaults" in source


def test_a_mapping_holds_plain_values_only(plugins):
    with pytest.raises(ConfigError) as caught:
        load_config({"policy": {"use": "walker", "weights": object()}}, plugins=plugins)
    assert caught.value.problems == ["config: policy.weights: found an object, a config holds plain values only"]
    with pytest.raises(ConfigError) as caught:
        load_config({"policy": {"use": "walker", None: 1}}, plugins=plugins)
    assert caught.value.problems == ["config: policy: a key must be text or a number, found null"]

"""Pass two: parameters against constructors, and components against one another."""

import pytest

from mscore.config import all_selections, check_parameters, load_config


def walker(text):
    return "policy: {use: walker, " + text + "}"


@pytest.mark.parametrize(
    "text",
    [
        "hiddim: 1",
        "sizes: [1, 2]",
        "dropout: 0",
        "dropout: 0.5",
        "weights: a/b.ckpt",
        "weights: null",
        "color: blue",
        "mode: fast",
        "flag: true",
        "title: '5'",
        "limit: 3",
        "limit: 0.5",
        "timeout: 00:30:00",
        "table: {a: [1]}",
        "items: [1, 2]",
        "names: [a]",
        "strange: {any: thing}",
        "action_space: null",
    ],
)
def test_values_that_fit(problems, text):
    if "action_space" in text:
        assert "supplied by mscore" in problems(walker(text))[0]
    else:
        assert problems(walker(text)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hiddim: '5'", "hiddim: found '5' (text), expected an integer"),
        ("hiddim: true", "hiddim: found true (boolean), expected an integer"),
        ("hiddim: 5.0", "hiddim: found 5.0 (number), expected an integer"),
        ("hiddim: 0", "hiddim: found 0 (integer), must be at least 1"),
        ("hiddim: null", "hiddim: found null, expected an integer"),
        ("sizes: [1, x, 2.5]", "sizes[1]: found 'x' (text), expected an integer"),
        ("sizes: 3", "sizes: found 3 (integer), expected a list"),
        ("dropout: true", "dropout: found true (boolean), expected a number"),
        ("dropout: '0.5'", "dropout: found '0.5' (text), expected a number"),
        ("dropout: 1", "dropout: found 1 (integer), must be less than 1"),
        ("dropout: -1.0", "dropout: found -1.0 (number), must be at least 0"),
        ("weights: 3", "weights: found 3 (integer), expected a path"),
        ("color: green", "color: found 'green' (text), expected one of 'red' or 'blue'"),
        ("mode: quick", "mode: found 'quick' (text), expected one of 'slow' or 'fast'"),
        ("flag: 1", "flag: found 1 (integer), expected true or false"),
        ("flag: 'yes'", "flag: found 'yes' (text), expected true or false"),
        ("title: 5", "title: found 5 (integer), expected text"),
        ("limit: true", "limit: found true (boolean), expected a number or an integer"),
        ("timeout: soon", "timeout: found 'soon' (text), expected a duration such as 00:30:00"),
        ("table: {a: [1, b]}", "table.a[1]: found 'b' (text), expected an integer"),
        ("table: [1]", "table: found a list (1), expected a mapping"),
        ("items: [a]", "items[0]: found 'a' (text), expected an integer"),
        ("names: []", "names: found a list (empty), must be at least 1 long"),
        ("observation_space: 1", "observation_space: is supplied by mscore and cannot be set in a config"),
        ("hidim: 1", "hidim: unknown parameter, expected one of: color, dropout,"),
    ],
)
def test_values_that_do_not_fit(problems, text, said):
    found = problems(walker(text))
    assert found[0].startswith(f"config.yaml:1: policy.{said}")
    assert len(found) == (2 if "x, 2.5" in text else 1)


def test_everything_is_checked_and_told_at_once(problems):
    found = problems(
        """\
policy:
  use: walker
  hidim: 3
data: frames
objectives:
  bc: {wieght: 1, reduction: max}
  gone: {}
callbacks:
  ema: {every_n_steps: x}
"""
    )
    assert [line.partition(": found")[0].partition(": unknown")[0].partition(": missing")[0] for line in found[:5]] == [
        "config.yaml:3: policy.hidim",
        "config.yaml:4: data.win_len",
        "config.yaml:6: objectives.bc.wieght",
        "config.yaml:6: objectives.bc.reduction",
        "config.yaml:7: objectives.gone: objective 'gone' of plugin 'parts' (mscore-plugin-parts 1.2) cannot be "
        "imported: module 'config_parts' has no attribute 'NotThere'. Did you mean 'Notes'?",
    ]
    assert found[1] == "config.yaml:4: data.win_len: missing parameter, expected int > 0"
    assert found[5] == "config.yaml:9: callbacks.ema.decay: missing parameter, expected float"
    assert found[6] == "config.yaml:9: callbacks.ema.every_n_steps: found 'x' (text), expected an integer"
    assert "Did you mean 'policy.hiddim'?" in found[0]
    assert len(found) == 7


def test_kwargs_are_held_against_the_parent_that_takes_them(problems):
    assert problems("policy: walker\ncallbacks: {forward: {patience: 5, extra: 1}}") == []
    found = problems("policy: walker\ncallbacks: {forward: {patience: x, exta: 1}}")
    assert found == [
        "config.yaml:2: callbacks.forward.exta: unknown parameter, expected one of: extra, monitor, patience."
        " Did you mean 'callbacks.forward.extra'?",
        "config.yaml:2: callbacks.forward.patience: found 'x' (text), expected an integer",
    ]


def test_kwargs_are_held_against_the_declared_receiver(problems):
    assert problems("policy: walker\noptimizer: {use: factory, learning_rate: 1}") == []
    (line,) = problems("policy: walker\noptimizer: {use: factory, lr: 1}")
    assert line == (
        "config.yaml:2: optimizer.lr: unknown parameter, expected one of: learning_rate."
        " Did you mean 'optimizer.learning_rate'?"
    )


def test_kwargs_that_nobody_is_known_to_take_are_accepted(problems):
    assert problems("policy: walker\ncallbacks: {free: {anything: [1]}}") == []
    (line,) = problems("policy: walker\ncallbacks: {free: {known: x}}")
    assert line.endswith("callbacks.free.known: found 'x' (text), expected an integer")


def test_what_no_yaml_can_hold(problems):
    found = problems("policy: {use: hidden-walker, act: f, maze: blue, secret: 1}")
    assert found == [
        "config.yaml:1: policy.secret: cannot be set in a config",
        "config.yaml:1: policy.act: found 'f' (text), but this takes a Python object (a function):"
        " it cannot be set in a config",
    ]


def test_nested_components_are_checked_in_full(problems):
    assert (
        problems("policy: walker\nobjectives: {teacher: {environment: maze, more: [{use: maze, size: 4}, null]}}") == []
    )
    found = problems(
        """\
policy: walker
objectives:
  teacher:
    environment: {use: maze, sise: 3}
    more: [maze, mase, {use: maze, size: x}]
"""
    )
    assert [line.partition(". ")[0] for line in found] == [
        "config.yaml:5: objectives.teacher.more[1]: unknown environment 'mase'",
        "config.yaml:4: objectives.teacher.environment.sise: unknown parameter, expected one of: size",
        "config.yaml:5: objectives.teacher.more[2].size: found 'x' (text), expected an integer",
    ]
    (line,) = problems("policy: walker\nobjectives: {teacher: {environment: {size: 1}}}")
    assert line == (
        "config.yaml:2: objectives.teacher.environment: found a mapping (size), expected an environment's name"
        " or a mapping with `use`"
    )


def test_a_nested_import_string_is_refused(problems):
    (line,) = problems("policy: walker\nobjectives: {teacher: {environment: {use: 'config_parts:Maze'}}}")
    assert line.startswith(
        "config.yaml:2: objectives.teacher.environment.use: found 'config_parts:Maze' (text): a config"
    )


def test_latents_that_the_policy_does_not_provide(problems):
    (line,) = problems("policy: walker\nobjectives: {bc: {}, kl: {}}")
    assert line == (
        "config.yaml:2: objectives.kl: objective 'kl' needs the latents posterior_dist, which policy 'walker'"
        " does not provide (it provides: pi_logits, vpred)"
    )
    assert problems("policy: hidden-walker\nobjectives: {kl: {}}") == []


def test_sections_that_the_trainer_does_not_honour(problems):
    assert problems("policy: walker\ntrainer: online\ncallbacks: {ema: {decay: 1.0}}") == []
    found = problems(
        "policy: walker\ntrainer: online\ndata: {use: frames, win_len: 1}\noptimizer: {eps: 1.0}\nobjectives: {}"
    )
    assert found == [
        "config.yaml:3: data: trainer 'online' has no use for this section (it honours: callbacks)",
        "config.yaml:4: optimizer: trainer 'online' has no use for this section (it honours: callbacks)",
    ]
    assert problems("policy: walker\ntrainer: deaf\ncallbacks: {ema: {decay: 1.0}}") == [
        "config.yaml:3: callbacks.ema: trainer 'deaf' runs no Lightning callbacks"
    ]


def test_all_selections_finds_nested_ones_and_those_of_stages(plugins):
    teacher = {"environment": {"use": "maze"}, "more": ["maze"]}
    config = load_config(
        {"policy": "walker", "trainer": "simple", "stages": [{"objectives": {"teacher": teacher}}, {"data": None}]},
        plugins=plugins,
    )
    check_parameters(config, plugins)
    paths = [selection.path for selection in all_selections(config, plugins)]
    assert "objectives.teacher.environment" in paths
    assert "objectives.teacher.more[0]" in paths
    assert len(paths) == len(set(paths))


def test_lightning_and_torch_components(problems):
    found = problems(
        """\
policy: walker
trainer: {max_steps: 10, max_stepps: 3, precision: bf16-mixed, limit_val_batches: 0.5, gradient_clip_val: 1}
optimizer: {use: sgd, learning_rate: 1, momentm: 0.9}
callbacks:
  model-checkpoint: {every_n_train_steps: 5, train_time_interval: 00:10:00, save_top_kk: -1}
  early-stopping: {patience: 3}
  learning-rate-monitor: {logging_interval: batch}
"""
    )
    assert [line.partition(": unknown")[0].partition(": missing")[0].partition(": found")[0] for line in found] == [
        "config.yaml:3: optimizer.momentm",
        "config.yaml:2: trainer.max_stepps",
        "config.yaml:5: callbacks.model-checkpoint.save_top_kk",
        "config.yaml:6: callbacks.early-stopping.monitor",
        "config.yaml:7: callbacks.learning-rate-monitor.logging_interval",
    ]
    assert "Did you mean 'trainer.max_steps'" in found[1]
    assert "`mscore plugins show offline` lists all" in found[1]

"""Several runs from one config."""

import pytest

from mscore.config import check_parameters, load_config

STAGED = """\
policy: {use: walker, hiddim: 8}
objectives: {bc: {weight: 1.0}}
callbacks: {ema: {decay: 0.5}}
optimizer: {learning_rate: 1.0}
environment: maze
evaluation: {episodes: 5}
stages:
  - name: clone
    seed: 4
    log_freq: ${seed}
  - objectives: {bc: null, kl: {weight: 2.0}}
    callbacks: {ema: null}
    environment: null
    evaluation: null
    optimizer: {use: plain}
    init_from: previous
  - name: last
    policy: hidden-walker
"""


@pytest.fixture
def config(plugins, here):
    here("config.yaml", STAGED)
    return load_config(
        "config.yaml", ["stages[1].seed=9", "stages[2].policy.maze=3", "stages[1].name=two"], plugins=plugins
    )


def test_a_stage_is_the_common_part_with_its_own_laid_over(config):
    first, second, third = (stage.config for stage in config.stages)
    assert [stage.name for stage in config.stages] == ["clone", "two", "last"]
    assert (first.seed, first.log_freq, first.policy.parameters) == (4, 4, {"hiddim": 8})
    assert [objective.use for objective in second.objectives] == ["kl"]
    assert (second.callbacks, second.environment, second.evaluation) == ((), None, None)
    assert (second.optimizer.to_config(), second.seed, second.init_from) == ({"use": "plain"}, 9, "previous")
    assert third.policy.to_config() == {"use": "hidden-walker", "maze": 3}
    assert first.stages == ()
    assert config.policy.use == "walker"
    assert config.stages[0].resolved is first.resolved


def test_staged_configs_round_trip(config, plugins, here):
    here("stored.yaml", config.to_yaml())
    assert load_config("stored.yaml", plugins=plugins) == config
    for stage in config.stages[:1]:
        assert load_config(stage.resolved, plugins=plugins) == stage.config


def test_a_policy_may_come_from_the_stages(plugins, here):
    here("config.yaml", "stages:\n  - policy: walker\n  - policy: hidden-walker\n")
    config = load_config("config.yaml", plugins=plugins)
    assert [stage.config.policy.use for stage in config.stages] == ["walker", "hidden-walker"]
    assert [stage.name for stage in config.stages] == ["stage1", "stage2"]
    assert config.policy.use == "walker"
    here("stored.yaml", config.to_yaml())
    assert load_config("stored.yaml", plugins=plugins) == config


def test_a_mistake_is_told_where_it_was_written_and_once(problems):
    found = problems(
        """\
policy: walker
objectives: {bc: {wieght: 1.0}}
stages:
  - name: one
    data: {use: frames}
  - name: one
    init_from: previous
    objectives: {bc: {weight: x}}
    callbacks: {emaa: null}
  - {polic: x}
  - 3
"""
    )
    assert [line.partition(": ")[0] for line in found] == [f"config.yaml:{line}" for line in (9, 6, 10, 11)]
    assert found[0].startswith("config.yaml:9: stages[1].callbacks.emaa: null removes a component")
    assert found[1] == "config.yaml:6: stages[1].name: 'one' is the name of an earlier stage"
    assert found[2].startswith("config.yaml:10: stages[2].polic: unknown section")
    assert found[3] == "config.yaml:11: stages[3]: found 3 (integer), expected sections that differ"


def test_parameters_of_every_stage_are_checked_once(problems):
    found = problems(
        """\
policy: walker
objectives: {bc: {wieght: 1.0}}
stages:
  - data: {use: frames}
  - objectives: {bc: {reduction: x}}
"""
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["config.yaml:4", "stages[0].data.win_len"],
        ["config.yaml:2", "objectives.bc.wieght"],
        ["config.yaml:5", "stages[1].objectives.bc.reduction"],
    ]


def test_previous_needs_an_earlier_stage(problems):
    (line,) = problems("policy: walker\ninit_from: previous", parameters=False)
    assert line.startswith("config.yaml:2: init_from: 'previous' is for stages after the first")
    (line,) = problems("policy: walker\nstages: [{init_from: previous}, {init_from: previous}]", parameters=False)
    assert line.startswith("config.yaml:2: stages[0].init_from: 'previous' is for stages after the first")


def test_stages_have_no_stages(problems):
    (line,) = problems("policy: walker\nstages: [{stages: []}]", parameters=False)
    assert line == "config.yaml:2: stages[0].stages: a stage has no stages or defaults of its own"
    (line,) = problems("policy: walker\nstages: {a: 1}", parameters=False)
    assert line == "config.yaml:2: stages: found a mapping (a), expected a list of partial configs"


def test_pass_two_accepts_a_right_staged_config(plugins, here):
    here("config.yaml", "policy: walker\nstages: [{trainer: simple}, {trainer: {use: simple, max_steps: 2}}]")
    check_parameters(load_config("config.yaml", plugins=plugins), plugins)

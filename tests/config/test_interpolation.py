"""``${…}``: OmegaConf's, with every failure named."""

import pytest

from mscore.config import load_config


def test_values_components_and_environment_variables(plugins, here, monkeypatch):
    monkeypatch.setenv("WALKER", "walker")
    here(
        "config.yaml",
        """
seed: 7
name: run-${seed}
policy: {use: "${oc.env:WALKER}", title: "${oc.env:NOT_SET, none}", hiddim: "${data.win_len}"}
data: {use: frames, win_len: 8, environment: {use: maze, size: 4}}
environment: ${data.environment}
callbacks: {ema: {decay: "${objectives.bc.weight}"}}
objectives: {bc: {weight: 0.5}}
""",
    )
    config = load_config("config.yaml", ["data.win_len=16", "environment.size=5"], plugins=plugins)
    assert config.name == "run-7"
    assert config.policy.to_config() == {"use": "walker", "title": "none", "hiddim": 16}
    assert config.environment.to_config() == {"use": "maze", "size": 5}
    assert config.callbacks[0].parameters == {"decay": 0.5}
    assert "${" not in config.to_yaml()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${data.win_len}", "does not resolve: there is no 'data.win_len' in the config. Did you mean 'data.wim_len'"),
        ("${oc.env:MSCORE_NOT_SET}", "does not resolve: the environment variable 'MSCORE_NOT_SET' is not set"),
        ("${policy.hiddim}", "does not resolve: it refers to itself"),
        ("${nope:1}", "does not resolve: Unsupported interpolation type nope"),
        ("${data", "cannot be read: "),
        ("???", "must be given, it has no value (???)"),
    ],
)
def test_what_does_not_resolve_is_named_once(problems, value, said):
    (line,) = problems(
        f"data: {{use: frames, wim_len: 3}}\npolicy:\n  use: walker\n  hiddim: {value!r}\n", parameters=False
    )
    shown = "" if value == "???" else f"interpolation {value} "
    assert line.startswith(f"config.yaml:4: policy.hiddim: {shown}{said}")


def test_all_failures_are_told(problems):
    found = problems(
        "policy: '${oc.env:MSCORE_NOT_SET}'\nname: ${nme}\nseed: ${sed}\nevaluation: {episodes: '${x}'}\nlog_freq: x"
    )
    assert [line.partition(": ")[0] for line in found] == [f"config.yaml:{i}" for i in (1, 2, 3, 4, 5, 4)]
    assert "rollouts need an environment" in found[-1]


def test_an_escaped_interpolation_is_text(plugins, here):
    here("config.yaml", "policy: {use: walker, title: '\\${seed}'}")
    config = load_config("config.yaml", plugins=plugins)
    assert config.policy.parameters["title"] == "${seed}"
    here("again.yaml", config.to_yaml())
    assert load_config("again.yaml", plugins=plugins).policy == config.policy

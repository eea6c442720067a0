"""Files, recipes and includes: what is read, from where, and what is refused."""

import pytest

from mscore.config import load_config
from mscore.errors import ConfigError


def lines(plugins, source, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides, plugins=plugins)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("policy: walker\n\tname: x\n", 2, "not YAML: found character '\\t' that cannot start any token"),
        ("policy: {use: walker\nname: x\n", 2, "not YAML: "),
        ("name: a: b\n", 1, "quote text that contains ': '"),
        ("name: a\nseed: 1\nname: b\n", 3, "name: is written twice, first on line 1"),
        ("policy:\n  use: walker\n  use: walker\n", 3, "policy.use: is written twice, first on line 2"),
        ("name: !!python/object/apply:os.system [ls]\n", 1, "name: the tag !!python/object/apply:os.system is refused"),
        ("policy:\n  use: !!python/name:os.system\n", 2, "policy.use: the tag !!python/name:os.system is refused"),
        ("name: !custom x\n", 1, "name: the tag !custom is refused"),
        ("name: !!binary aGk=\n", 1, "name: the tag !!binary is refused"),
        ("policy: &a {use: walker, b: *a}\n", 1, "policy.b: an alias that contains itself"),
        ("? [a, b]\n: 1\n", 1, "a key must be plain text"),
        ("- policy\n", None, "found a list (policy), expected sections such as `policy:`"),
        ("", None, "found null, expected sections such as `policy:`"),
        ("name: a\n---\nname: b\n", 2, "not YAML: "),
        ("name: !!int x\n", 1, "name: 'x' does not fit its tag"),
    ],
)
def test_a_file_that_is_no_config(plugins, here, text, line, said):
    here("bad.yaml", text)
    (found,) = lines(plugins, "bad.yaml")
    assert found.startswith("bad.yaml: " if line is None else f"bad.yaml:{line}: ")
    assert said in found


def test_a_tag_runs_nothing(plugins, here, tmp_path):
    here("bad.yaml", f"name: !!python/object/apply:os.mkdir [{tmp_path}/made]\n")
    lines(plugins, "bad.yaml")
    assert not (tmp_path / "made").exists()


def test_a_missing_file_names_the_nearest(plugins, here):
    here("config.yaml", "policy: walker")
    assert lines(plugins, "confg.yaml") == ["there is no file confg.yaml. Did you mean 'config.yaml'?"]
    (far,) = lines(plugins, "zzzzzzz.yaml")
    assert far == "there is no file zzzzzzz.yaml. In .: config.yaml"
    (nowhere,) = lines(plugins, "no/such.yaml")
    assert nowhere == "there is no file no/such.yaml (nor a folder no)."
    (folder,) = lines(plugins, ".")
    assert folder == ". is a folder; name a YAML file in it"


def test_a_file_that_is_not_text(plugins, tmp_path, here):
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff\xfe")
    (line,) = lines(plugins, "bad.yaml")
    assert line.startswith("bad.yaml: cannot be read: ")


@pytest.fixture
def recipes(plugins, here):
    for plugin in plugins:
        if plugin.name == "parts":
            path = here("shelf/maze-walk.yaml", "policy: {use: walker, hiddim: 16}")
            plugin.components["recipe"] = {"maze-walk": str(path)}
    return plugins


def test_a_recipe_is_a_config_by_name(recipes, here):
    config = load_config("maze-walk", ["policy.flag=true"], plugins=recipes)
    assert (config.name, config.policy.parameters) == ("maze-walk", {"hiddim": 16, "flag": True})
    assert load_config("parts/maze-walk", plugins=recipes).policy == load_config("maze-walk", plugins=recipes).policy
    here("config.yaml", "defaults: [maze-walk]\npolicy: {flag: true}")
    assert load_config("config.yaml", plugins=recipes).policy.parameters == {"hiddim": 16, "flag": True}


def test_an_unknown_recipe(recipes, here):
    here("config.yaml", "policy: walker")
    assert lines(recipes, "maze-wlk") == ["there is no file and no recipe 'maze-wlk'. Did you mean 'maze-walk'?"]
    assert "Did you mean 'config.yaml'?" in lines(recipes, "config")[0]
    (line,) = lines(recipes, "qqqqqq")
    assert line.startswith("there is no file 'qqqqqq', and unknown recipe 'qqqqqq'")
    assert "maze-walk" in line


def test_includes_are_relative_to_their_file_and_own_content_wins(plugins, here):
    here("base/one.yaml", "seed: 1\npolicy: {use: walker, hiddim: 1, sizes: [1], table: {a: [1], b: [2]}}")
    here("base/two.yaml", "defaults: one.yaml\nseed: 2\npolicy: {hiddim: 2}")
    here("three.yaml", "seed: 3\nlog_freq: 3\nobjectives: {bc: {weight: 3.0}}\ncallbacks: {ema: {decay: 0.5}}")
    here(
        "config.yaml",
        "defaults: [base/two.yaml, three.yaml]\nlog_freq: 4\nobjectives: {bc: null, kl: {}}\n"
        "policy: {sizes: [4], table: {b: [4]}}",
    )
    config = load_config("config.yaml", plugins=plugins)
    assert (config.seed, config.log_freq) == (3, 4)
    assert config.policy.parameters == {"hiddim": 2, "sizes": [4], "table": {"a": [1], "b": [4]}}
    assert [objective.label for objective in config.objectives] == ["kl"]
    assert "defaults" not in config.resolved


def test_a_label_that_is_removed_and_added_again_comes_last(plugins, here):
    here("one.yaml", "policy: walker\nobjectives: {bc: {weight: 2.0}, kl: {}}")
    here("two.yaml", "defaults: [one.yaml]\nobjectives: {bc: null}")
    here("config.yaml", "defaults: [two.yaml]\nobjectives: {bc: {}}")
    objectives = load_config("config.yaml", plugins=plugins).objectives
    assert [(objective.label, objective.parameters) for objective in objectives] == [("kl", {}), ("bc", {})]


def test_naming_another_component_starts_afresh(plugins, here):
    here(
        "base.yaml",
        "policy: {use: walker, hiddim: 1}\noptimizer: {learning_rate: 1.0}\ncallbacks: {a: {use: ema, decay: 0.5}}",
    )
    here(
        "config.yaml",
        "defaults: [base.yaml]\npolicy: hidden-walker\n"
        "callbacks: {a: {use: free, x: 1}}\noptimizer: {use: adamw, eps: 1.0}",
    )
    config = load_config("config.yaml", plugins=plugins)
    assert (config.policy.use, config.policy.parameters) == ("hidden-walker", {})
    assert config.callbacks[0].to_config() == {"use": "free", "x": 1}
    assert config.optimizer.parameters == {"learning_rate": 1.0, "eps": 1.0}


def test_mistakes_in_an_included_file_carry_its_name(plugins, here):
    here("base.yaml", "policy: walker\n\nobjectives: {bbc: {}}\nseed: x")
    here("config.yaml", "defaults: [base.yaml]\nseed: 1\n\ncallbacks: {emma: {}}")
    found = lines(plugins, "config.yaml")
    assert [line.partition(": ")[0] for line in found] == ["base.yaml:3", "config.yaml:4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "defaults: [config.yaml]",
            "config.yaml:1: defaults: a file cannot include itself: config.yaml includes config.yaml",
        ),
        ("defaults: [nowhere.yaml]", "config.yaml:1: defaults: there is no file nowhere.yaml"),
        ("defaults: {a: 1}", "config.yaml:1: defaults: found a mapping (a), expected a list of files"),
        ("defaults: [1]", "config.yaml:1: defaults: found a list (1), expected a list of files"),
    ],
)
def test_includes_that_cannot_be(plugins, here, text, said):
    here("config.yaml", text)
    (line,) = lines(plugins, "config.yaml")
    assert line.startswith(said)


def test_a_longer_cycle_is_told_in_full(plugins, here):
    here("a.yaml", "defaults: [sub/b.yaml]")
    here("sub/b.yaml", "name: b\ndefaults:\n  - ../a.yaml")
    assert lines(plugins, "a.yaml") == [
        "sub/b.yaml:3: defaults: a file cannot include itself: a.yaml includes sub/b.yaml includes a.yaml"
    ]


def test_a_file_included_twice_is_no_cycle(plugins, here):
    here("base.yaml", "policy: walker")
    here("one.yaml", "defaults: [base.yaml]")
    here("config.yaml", "defaults: [base.yaml, one.yaml]")
    assert load_config("config.yaml", plugins=plugins).policy.use == "walker"


def test_anchors_and_merge_keys_work(plugins, here):
    here(
        "config.yaml",
        "policy: &p {use: walker, hiddim: 3}\nobjectives:\n  a: &o {use: bc, weight: 2.0}\n"
        "  b: {<<: *o, weight: 3.0}\n  c: *o\n  d: {<<: *o}\n",
    )
    config = load_config("config.yaml", plugins=plugins)
    assert [objective.parameters["weight"] for objective in config.objectives] == [2.0, 3.0, 2.0, 2.0]


def test_an_omegaconf_config_is_a_mapping_like_any(plugins):
    from omegaconf import OmegaConf

    source = OmegaConf.create({"seed": 4, "log_freq": "${seed}", "policy": "walker"})
    assert load_config(source, ["seed=7"], plugins=plugins).log_freq == 7

"""The JSON schema of whole configs takes what mscore takes, and refuses the same mistakes of structure."""

import dataclasses

import jsonschema
import pytest
import yaml

from mscore.components import components
from mscore.config import check_parameters, load_config
from mscore.config.editor_schema import config_schema
from mscore.config.grammar import SECTIONS
from mscore.config.model import Evaluation
from mscore.errors import ConfigError
from mscore.plugins import PluginSet

MADE = []


@pytest.fixture
def made(plugins):
    """The schema of the tests' components and the problems with it, made once."""
    if not MADE:
        MADE.append(config_schema(plugins))
    return MADE[0]


@pytest.fixture
def schema(made):
    return made[0]


@pytest.fixture
def validator(schema):
    return jsonschema.Draft202012Validator(schema)


RIGHT = [
    "policy: walker",
    "policy: {use: walker, hiddim: 32, sizes: [1, 2], color: blue, weights: some/path, dropout: 0}",
    "policy: parts/walker",
    "policy: {use: mscore-plugin-parts/walker}",
    "{policy: walker, data: {use: frames, win_len: 4}, environment: maze}",
    "{policy: walker, data: {use: frames, win_len: 4, environment: {use: maze}}}",
    "{policy: walker, data: {use: frames, win_len: 4, environment: maze}}",
    "{policy: walker, objectives: {bc: {}, kl: {}, second: {use: bc, weight: 2}, third: bc}}",
    "{policy: walker, objectives: {parts/bc: {weight: 0.5}}}",
    "{policy: walker, optimizer: {learning_rate: 1.0e-3}, scheduler: {warmup_steps: 3}, trainer: {max_steps: 5}}",
    "{policy: walker, optimizer: {use: sgd, momentum: 0.9}}",
    "{policy: walker, callbacks: {ema: {decay: 0.9}, free: {whatever: 1}}}",
    "{policy: walker, loggers: {csv: null, notes: {}}}",
    "{policy: walker, environment: maze, evaluation: {episodes: 3, every_n_steps: null}}",
    "{policy: walker, name: a-b.c, seed: 4294967295, log_freq: 1, init_from: runs/x, requires: [mscore>=0.1]}",
    '{policy: {use: walker, hiddim: "${seed}", sizes: ["${seed}"]}, seed: 3}',
    '{policy: walker, environment: maze, data: {use: frames, win_len: 4, environment: "${environment}"}}',
    '{policy: walker, objectives: {bc: {weight: "${oc.decode:${oc.env:NOT_SET,2.0}}"}}}',
    "{policy: walker, stages: [{objectives: {bc: {}}}, {optimizer: {learning_rate: 0.1}, evaluation: null}]}",
    "{data: {use: frames, win_len: 4}, stages: [{policy: walker}, {name: two, policy: walker, data: {win_len: 2}}]}",
    "{defaults: [base.yaml], objectives: {bc: null, soft: {weight: 2.0}}, policy: {hiddim: 3}}",
    "{defaults: base.yaml, loggers: null}",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_mscore_takes_validates(text, validator, plugins, here, monkeypatch):
    here("base.yaml", "{policy: walker, objectives: {bc: {}, soft: {use: bc}}}")
    here("config.yaml", text)
    assert list(map(str, validator.iter_errors(yaml.safe_load(text)))) == []
    config = load_config("config.yaml", plugins=plugins)
    monkeypatch.setattr("mscore.config.validation._Checker._check_latents", lambda checker: None)
    check_parameters(config, plugins)
    assert list(validator.iter_errors(yaml.safe_load(config.to_yaml()))) == []


WRONG = [
    "{}",
    "seed: 3",
    "policy: walkr",
    "policy: null",
    "policy: [walker]",
    "policy: {hiddim: 3}",
    "policy: {use: walker, hidim: 3}",
    "policy: {use: walker, hiddim: 0}",
    "policy: {use: walker, hiddim: '3'}",
    "policy: {use: walker, hiddim: 2.5}",
    "policy: {use: walker, color: green}",
    "policy: {use: walker, dropout: 1.0}",
    "policy: {use: walker, flag: 1}",
    "policy: {use: walker, observation_space: 1}",
    "{policy: walker, polcy: walker}",
    "{policy: walker, data: frames}",
    "{policy: walker, data: {use: frames}}",
    "{policy: walker, data: {use: walker, win_len: 3}}",
    "{policy: walker, data: {use: frames, win_len: 4, environment: labyrinth}}",
    "{policy: walker, data: {use: frames, win_len: 4, environment: {use: maze, size: big}}}",
    "{policy: walker, objectives: [bc]}",
    "{policy: walker, objectives: {bcc: {}}}",
    "{policy: walker, objectives: {bc: {wieght: 1.0}}}",
    "{policy: walker, objectives: {bc: null}}",
    "{policy: walker, objectives: {second: {use: bcc}}}",
    "{policy: walker, objectives: {bc: 1.0}}",
    "{policy: walker, optimizer: {lr: 0.1}}",
    "{policy: walker, optimizer: null}",
    "{policy: walker, trainer: {callbacks: []}}",
    "{policy: walker, trainer: {max_steps: 1.5}}",
    "{policy: walker, seed: -1}",
    "{policy: walker, seed: true}",
    "{policy: walker, log_freq: 0}",
    "{policy: walker, name: a/b}",
    "{policy: walker, requires: mscore}",
    "{policy: walker, evaluation: {episodes: 3}}",
    "{policy: walker, environment: maze, evaluation: {episode: 3}}",
    "{policy: walker, environment: maze, evaluation: {episodes: 0}}",
    "{policy: walker, stages: {a: {}}}",
    "{policy: walker, stages: [{stages: []}]}",
    "{policy: walker, stages: [{objectives: {bc: {wieght: 1}}}]}",
    "{policy: walker, stages: [{objectives: {bcc: {use: bcc}}}]}",
    "{defaults: [base.yaml], objectives: {bc: {wieght: 1}}}",
    "{policy: {_target_: os.system}}",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_mscore_refuses_does_not_validate(text, validator, plugins, here):
    here("base.yaml", "policy: walker")
    here("config.yaml", text)
    with pytest.raises(ConfigError):
        check_parameters(load_config("config.yaml", plugins=plugins), plugins)
    assert not validator.is_valid(yaml.safe_load(text))


def test_it_is_a_schema(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


def test_what_an_editor_shows(schema):
    definitions = schema["$defs"]
    walker = definitions["policy.mscore-plugin-parts.walker"]
    assert walker["title"] == "mscore-plugin-parts/walker"
    assert walker["properties"]["use"]["enum"] == ["walker", "parts/walker", "mscore-plugin-parts/walker"]
    hiddim = walker["properties"]["hiddim"]
    assert (hiddim["default"], hiddim["description"]) == (64, "width of the latent, in channels.")
    assert hiddim["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert set(schema["properties"]) == {*SECTIONS, "defaults"}
    assert all(section["description"] for section in schema["properties"].values())
    evaluation = schema["else"]["properties"]["evaluation"]["anyOf"][0]["properties"]
    assert set(evaluation) == {field.name for field in dataclasses.fields(Evaluation)}
    assert all(setting["description"] for setting in evaluation.values())


def test_a_component_that_cannot_be_imported_is_left_open_and_told(made, validator):
    (problem,) = made[1]
    assert problem.startswith("objective 'gone' of plugin 'parts' (mscore-plugin-parts 1.2) cannot be imported: ")
    assert validator.is_valid({"policy": "walker", "objectives": {"gone": {"anything": [1]}}})


def test_a_name_of_two_plugins_has_to_be_qualified(plugins, parts):
    import types

    from mscore import hookimpl

    other = types.ModuleType("other_parts")
    other.mscore_objectives = hookimpl(lambda: {"bc": "config_parts:Cloning"})
    other.mscore_objectives.__name__ = "mscore_objectives"
    assert plugins.add_module(other, "other", "other-parts", "1").status == "ok"
    validator = jsonschema.Draft202012Validator(config_schema(plugins)[0])
    assert not validator.is_valid({"policy": "walker", "objectives": {"bc": {}}})
    assert validator.is_valid({"policy": "walker", "objectives": {"other/bc": {}, "second": {"use": "parts/bc"}}})


def test_every_recipe_that_is_installed_validates():
    plugins = PluginSet()
    validator = jsonschema.Draft202012Validator(config_schema(plugins)[0])
    recipes = components("recipe", plugins)
    assert recipes
    for recipe in recipes:
        with open(recipe.target) as file:
            errors = list(validator.iter_errors(yaml.safe_load(file)))
        assert errors == [], recipe.name
        resolved = load_config(recipe.name, plugins=plugins).resolved
        assert validator.is_valid(resolved), recipe.name

"""``mscore schema`` prints a JSON schema, and what it could not look into beside it."""

import json

import jsonschema
import yaml

HOOK = "from mscore import hookimpl\n@hookimpl\n"


def test_the_schema_of_the_installed_components(mscore, plugin, tmp_path):
    plugin("faulty", HOOK + "def mscore_objectives():\n    return {'half': 'mscore_plugin_faulty.loss:Half'}\n")
    (tmp_path / "work" / "my_objective.py").write_text(
        HOOK + "def mscore_objectives():\n    return {'mine': 'my_objective:Mine'}\n\n\n"
        "class Mine:\n    def __init__(self, weight: float = 1.0):\n        pass\n"
    )
    done = mscore("schema", "--plugin-file", "my_objective.py")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: objective 'half' of plugin 'faulty' (mscore-plugin-faulty 0.1.0) cannot")
    assert done.stderr.count("\n") == 1
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    for text, right in (
        ("{policy: tiny, data: tiny, objectives: {mine: {weight: 2}}}", True),
        ("{policy: tiny, data: tiny, objectives: {my_objective/mine: {}}}", True),
        ("{policy: tiny, data: tiny, objectives: {mine: {wieght: 2}}}", False),
        ("{policy: tiny, data: tiny, objectives: {half: {anything: 2}}}", True),
        ("{policy: tinny}", False),
        ("{policy: recurrent, data: {use: minigrid, env: BabyAI-UnlockPickup-v0}}", True),
    ):
        assert validator.is_valid(yaml.safe_load(text)) is right, text


def test_a_plugin_that_cannot_be_loaded_is_told(mscore, tmp_path):
    (tmp_path / "work" / "my_objective.py").write_text("x = (\n")
    done = mscore("schema", "--plugin-file", "my_objective.py")
    assert (done.returncode, json.loads(done.stdout)["title"]) == (0, "mscore config")
    assert "my_objective.py:1: SyntaxError: '(' was never closed" in done.stderr

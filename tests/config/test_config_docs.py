"""The page on configs: its YAML is read, its tables and examples are true."""

import re
import types
from pathlib import Path

import pytest

from mscore.config import Evaluation, load_config
from mscore.config.grammar import SECTIONS
from mscore.config.merging import DEFAULTS
from mscore.plugins import PluginSet

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def everything():
    """Plugins that provide the names which the page uses, whatever is installed."""
    source = """
from mscore import hookimpl
@hookimpl
def mscore_policies(): return {"recurrent": "documented:Nothing"}
@hookimpl
def mscore_datamodules(): return {"minigrid": "documented:Nothing"}
@hookimpl
def mscore_environments(): return {"minigrid": "documented:Nothing"}
@hookimpl
def mscore_objectives(): return {"bc": "documented:Nothing", "kl": "documented:Nothing"}
@hookimpl
def mscore_callbacks(): return {"ema": "documented:Nothing", "smart-ckpt": "documented:Nothing"}
"""
    module = types.ModuleType("documented")
    exec(source, module.__dict__)
    plugins = PluginSet(discover=False)
    plugin = plugins.add_module(module, "documented")
    assert plugin.status == "ok", plugin.reason
    return plugins


def test_every_snippet_is_a_part_of_a_config(everything, here):
    assert len(SNIPPETS) >= 7
    here("base.yaml", "callbacks: {ema: {decay: 0.5}}")
    here("shared/loggers.yaml", "loggers: {tensorboard: {}}")
    for index, snippet in enumerate(SNIPPETS):
        base = "" if "policy:" in snippet else "policy: recurrent\n"
        base += "environment: minigrid\n" if "evaluation:" in snippet and "environment:" not in snippet else ""
        here(f"folder/{index}.yaml", base + snippet.replace("base.yaml", "../base.yaml"))
        config = load_config(f"folder/{index}.yaml", plugins=everything)
        assert config.policy.use == "recurrent"


def test_the_table_names_every_section():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted([*SECTIONS, "defaults"])
    for section, default in DEFAULTS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{section}` |"))
        assert f"`{default.get('use', 'csv')}`" in row


def test_the_defaults_of_an_evaluation_are_told(everything):
    snippet = next(snippet for snippet in SNIPPETS if snippet.startswith("evaluation:"))
    text = "policy: recurrent\nenvironment: minigrid\n" + snippet
    from mscore.config.dialect import parse

    config = load_config(parse(text, "page").value, ["evaluation.every_n_steps=null"], plugins=everything)
    assert config.evaluation == Evaluation()


def test_the_messages_are_what_is_printed(problems):
    lines = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    found = problems(
        "policy: walker\nname: a\nseed: 1\nlog_freq: 1\n\n\nobjectives:\n  bc: {wieght: 1}\n", "trainer.max_steps=1.5"
    )
    assert found == lines


def test_the_overrides_of_the_page_work(everything, here):
    overrides = re.findall(r"^\| `'?([\w.\[\]]+=[^`']*)'?` \|", PAGE, re.MULTILINE)
    assert len(overrides) == 8
    here(
        "config.yaml",
        "policy: recurrent\ncallbacks: {ema: {}}\ndata: {use: minigrid, dataset_dirs: [a]}\nstages: [{}, {}]",
    )
    config = load_config("config.yaml", overrides, plugins=everything)
    assert [objective.use for objective in config.objectives] == ["bc", "kl"]
    assert (config.callbacks, config.policy.parameters) == ((), {"hiddim": 64, "sizes": [64, 64]})
    assert config.stages[1].config.trainer.parameters == {"max_steps": 10}
    assert config.data.parameters["dataset_dirs"] == ["other"]

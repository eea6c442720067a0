"""The smallest plugin that can train: a policy, data that a rule made, and a recipe.

The tests put its folder on the path; it is found through its metadata, as an installed package is.
"""

import os
from pathlib import Path

from mscore import hookimpl


@hookimpl
def mscore_policies():
    return {"tiny": "mscore_plugin_tiny.policy:TinyPolicy"}


@hookimpl
def mscore_objectives():
    return {"imitate": "mscore_plugin_tiny.objective:Imitate"}


@hookimpl
def mscore_datamodules():
    return {"tiny": "mscore_plugin_tiny.data:TinyData"}


@hookimpl
def mscore_callbacks():
    return {
        "running-mean": "mscore_plugin_tiny.averaging:RunningMean",
        "saboteur": "mscore_plugin_tiny.faults:Saboteur",
    }


@hookimpl
def mscore_recipes():
    return "mscore_plugin_tiny.recipes"


@hookimpl
def mscore_commands():
    return {"tiny hello": "mscore_plugin_tiny.commands:hello", "tiny gone": "mscore_plugin_tiny.commands:gone"}


@hookimpl
def mscore_run_configured(config):
    _note(f"configured {config.name}")


@hookimpl
def mscore_run_started(run):
    _note(f"started {run.directory.name}")


@hookimpl
def mscore_run_finished(run, error):
    _note(f"finished {type(error).__name__}")
    if "TINY_FINISH_FAILS" in os.environ:
        raise ValueError("no more paper")


def _note(text):
    if "TINY_NOTES" in os.environ:
        with Path(os.environ["TINY_NOTES"]).open("a") as file:
            file.write(text + "\n")

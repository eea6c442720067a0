"""Going on with a run: its stored config, and the few things that may differ from it."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from mscore.components import find
from mscore.config import RunConfig, load_config
from mscore.errors import ConfigError, did_you_mean
from mscore.runs import directory as layout
from mscore.runs.provenance import compare, find_files
from mscore.runs.ranks import is_rank_zero

_STAGE = re.compile(r"stages\[\d+\]\.")


def load_resumed(directory: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run that is to go on.

    Versions that differ from those that the run began with are warned of.

    Raises:
        ConfigError: an override of something that a resumed run keeps.
        MscoreError: a plugin (or a plugin file) that the run used is missing.
    """
    record = layout.read_record(directory)
    find_files(record)
    changes = compare(record)
    if is_rank_zero():
        for change in changes:
            warnings.warn(f"going on with other code than the run began with: {change}", stacklevel=2)
        _warn_of_other_folder(record.get("sessions", []))
    config = load_config(directory / layout.CONFIG_FILE)
    if not overrides:
        return config
    allowed = _changeable(config)
    problems = [problem for override in overrides if (problem := _problem(override, allowed))]
    if problems:
        raise ConfigError(problems)
    return load_config(directory / layout.CONFIG_FILE, overrides)


def _changeable(config: RunConfig) -> list[str]:
    """Dotted paths that may differ in a resumed run, beside all of ``loggers``."""
    runs = [stage.config for stage in config.stages] or [config]
    trainers = [find("trainer", one.trainer.use).load() for one in runs]
    return sorted({f"trainer.{name}" for trainer in trainers for name in (*trainer.run_length, *trainer.placement)})


def _problem(override: str, allowed: Sequence[str]) -> str | None:
    path = _STAGE.sub("", override.partition("=")[0].strip())
    if path in allowed or path == "loggers" or path.startswith("loggers."):
        return None
    hint = did_you_mean(path, allowed)
    return (
        f"override {override}: {path}: a run that is resumed keeps this; what may change is: "
        f"{', '.join(allowed)}, loggers.*.{hint}"
    )


def _warn_of_other_folder(sessions: Sequence[dict[str, str]]) -> None:
    began_in = sessions[0]["folder"] if sessions else os.getcwd()
    if began_in != os.getcwd():
        warnings.warn(
            f"the run began in {began_in}; relative paths in its config (such as data's) are looked up from here",
            stacklevel=2,
        )

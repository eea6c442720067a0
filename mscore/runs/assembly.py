"""From a checked config to a run that a trainer can train: everything is built here, in one order."""

import tempfile
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from filelock import FileLock

from mscore.components import find
from mscore.config import RunConfig, Selection, build, component_schema
from mscore.config.schema import OUTPUT_FOLDERS
from mscore.contracts.environment import Environment
from mscore.contracts.policy import MinePolicy
from mscore.contracts.trainer import Run
from mscore.errors import ConfigError
from mscore.runs import directory as layout
from mscore.runs.loading import build_policy
from mscore.runs.provenance import plugin_records, versions
from mscore.runs.ranks import launched_job
from mscore.runs.spaces import Spaces, find_spaces
from mscore.runs.weights import RECORD_KEY, apply_weights, read_weights

PREVIOUS = "previous"
"""What ``init_from`` says in a stage that goes on with the policy of the stage before."""


def check_surroundings(config: RunConfig) -> None:
    """Check what a run needs beside its plugins: optional packages, and the weights that it starts from.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    problems = []
    for one in [stage.config for stage in config.stages] or [config]:
        problems += _missing_extras(one)
        if one.init_from not in (None, PREVIOUS) and not _can_start_from(one, str(one.init_from)):
            problems.append(
                one.origins.line("init_from", f"there is no run, checkpoint or exported policy at {one.init_from}")
            )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _missing_extras(config: RunConfig) -> list[str]:
    extras = metadata("mscore").get_all("Provides-Extra") or []
    named = [(logger, logger.use.rpartition("/")[2]) for logger in config.loggers]
    return [
        f'{logger.origin}: {logger.path}: the package {name!r} is not installed: pip install "mscore[{name}]"'
        for logger, name in named
        if name in extras and find_spec(name) is None
    ]


def _can_start_from(config: RunConfig, source: str) -> bool:
    """Whether there is something at ``source``, or the policy may know what else the name means."""
    return Path(source).expanduser().exists() or _knows_weights(find("policy", config.policy.use).load())


def _knows_weights(policy: type[MinePolicy]) -> bool:
    return getattr(policy, "load_weights", None) is not MinePolicy.load_weights


def assemble(config: RunConfig, directory: Path, *, resume_from: Path | None = None) -> Run:
    """Build everything that a config names.

    Args:
        config: a config without stages whose parameters are checked.
        directory: the run's directory, where relative output folders lie.
        resume_from: checkpoint to go on from; its weights replace ``init_from``.

    Raises:
        ConfigError: a component that cannot be built.
        MscoreError: data and environment do not fit, or the starting weights do not fit the policy.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    environment: Environment | None = None if config.environment is None else build(config.environment)
    factory = {} if environment is None else {"environment_factory": environment}
    datamodule = _prepared_data(config.data, factory)
    spaces = find_spaces(datamodule, environment)
    # Preparing data takes random numbers only when there is something to prepare; the policy's initial
    # weights shall not depend on that.
    pl.seed_everything(config.seed, workers=True, verbose=False)
    starts_from = config.init_from if resume_from is None else str(resume_from)
    policy = build_policy(
        config.policy, injected={**factory, **spaces.injected()}, weights_follow=starts_from is not None
    )
    run = Run(
        config=config,
        directory=directory,
        policy=policy,
        datamodule=datamodule,
        environment=environment,
        observation_space=spaces.observation,
        action_space=spaces.action,
        resume_from=resume_from,
        hyperparameters=_hyperparameters(config, spaces),
    )
    injected = {**factory, **spaces.injected(), "run": run}
    run.objectives.update({one.label: build(one, injected=injected) for one in config.objectives})
    for one in config.callbacks:
        run.callbacks[one.label] = build(_in_directory(one, directory, run.checkpoints), injected=injected)
    for one in config.loggers:
        run.loggers.append(build(_in_directory(one, directory, directory), injected=injected))
    if config.init_from is not None and resume_from is None:
        _start_from(policy, config.init_from)
    return run


def _prepared_data(selection: Selection | None, injected: dict[str, Any]) -> pl.LightningDataModule | None:
    if selection is None:
        return None
    datamodule: pl.LightningDataModule = build(selection, injected=injected)
    with _one_at_a_time():
        try:
            datamodule.prepare_data()
        except Exception as error:
            plugin = find(selection.kind, selection.use).plugin
            error.add_note(f"while preparing the data of {selection.path}: {selection.use!r} of {plugin.label}")
            raise
    return datamodule


def _one_at_a_time() -> AbstractContextManager[Any]:
    """Let the processes of one launch prepare data one after the other: the first works, the others find it.

    Processes that Lightning starts itself come later, and find it anyway.
    """
    job = launched_job()
    return FileLock(Path(tempfile.gettempdir()) / f"mscore-{job}.lock") if job else nullcontext()


def _in_directory(selection: Selection, directory: Path, default: Path) -> Selection:
    """The selection with its output folders in the run's directory, where relative ones lie."""
    target = find(selection.kind, selection.use).load()
    parameters = dict(selection.parameters)
    if selection.kind == "logger":
        parameters = {**_logger_defaults(selection.use.rpartition("/")[2], directory), **parameters}
    for name in component_schema(target, selection.kind).names:
        if name in OUTPUT_FOLDERS:
            given = parameters.get(name)
            parameters[name] = str(default if given is None else directory / Path(given).expanduser())
    return Selection(selection.kind, selection.label, selection.use, parameters, selection.path, selection.origin)


def _logger_defaults(name: str, directory: Path) -> dict[str, Any]:
    """Parameters by which Lightning's loggers go on where they were when the run is resumed."""
    if name == "tensorboard":  # its own would be a new folder for every fit
        return {"name": "tensorboard", "version": ""}
    if name == "wandb":
        identity = layout.identity(directory)
        return {"id": identity, "name": identity, "resume": "allow"}
    return {}


def _hyperparameters(config: RunConfig, spaces: Spaces) -> dict[str, Any]:
    record = {"versions": versions(), "plugins": plugin_records(config), **spaces.described()}
    return {**config.resolved, RECORD_KEY: record}


def _start_from(policy: MinePolicy, source: str) -> None:
    if Path(source).expanduser().exists() or not _knows_weights(type(policy)):
        weights = read_weights(source)
        if weights is not None:
            apply_weights(policy, weights.state, weights.source)
            return
    policy.load_weights(source)

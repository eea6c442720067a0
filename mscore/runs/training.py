"""A run from its config to its report: check, build, train, and leave a directory that says everything."""

import dataclasses
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mscore.components import note_plugin
from mscore.config import RunConfig, check_parameters, load_config
from mscore.errors import Interrupted
from mscore.runs import directory as layout
from mscore.runs.ranks import is_rank_zero
from mscore.runs.record import FINISHED, RunRecord
from mscore.runs.resuming import load_resumed

if TYPE_CHECKING:
    from mscore.contracts.trainer import Run
    from mscore.runs.report import Report


@dataclass(frozen=True)
class RunResult:
    """What a run leaves."""

    directory: Path
    report: "Report | None"
    """None in the further processes of a distributed run."""


def run(
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: str | Path | None = None,
) -> RunResult:
    """Train a run to its end.

    Args:
        config: a YAML file, a recipe's name, a mapping, or a config that is loaded; none with ``resume``.
        overrides: ``dotted.path=value`` each, as on the command line.
        resume: directory of a run to go on with, from its stored config and its last checkpoint. Only what
            ends a run, devices and loggers may be overridden.

    Returns:
        The run's directory and report.

    Raises:
        ConfigError: mistakes in the config, all of them; nothing was built or written.
        Interrupted: the run was asked to stop; it is saved, and the message says how to go on.
        MscoreError: anything else that a user can mend.
        TypeError: both or neither of ``config`` and ``resume``.
    """
    return run_in(*prepare(config, overrides, resume=resume))


def prepare(
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: str | Path | None = None,
) -> tuple[Path, RunConfig]:
    """The first half of :func:`run`: its directory, and its config, checked. :func:`run_in` is the second.

    The directory is made last, when nothing is wrong.
    """
    if (config is None) == (resume is None):
        raise TypeError("run() takes either a config, or resume=RUN_DIR")
    if resume is not None:
        directory = layout.reopen(resume)
        return directory, check(load_resumed(directory, overrides))
    assert config is not None
    loaded = check(config if isinstance(config, RunConfig) else load_config(config, overrides))
    return layout.create(loaded.name), loaded


def check(config: RunConfig) -> RunConfig:
    """Check everything that can be checked before anything is built or written, and return the config.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    check_parameters(config)
    from mscore.runs.assembly import check_surroundings

    check_surroundings(config)
    return config


def run_in(directory: Path, config: RunConfig) -> RunResult:
    """Train a checked config in a run's directory, from its last checkpoint where there is one.

    Whatever ends it before its time is raised with a line that says how to go on.
    """
    try:
        with _sigterm_interrupts():
            report = _run_recorded(directory, config)
    except Interrupted as caught:
        raise Interrupted(f"{caught}; {_how_to_go_on(directory)}") from caught
    except BaseException as caught:
        caught.add_note(_how_to_go_on(directory))
        raise
    return RunResult(directory, report)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM interrupt what comes before and after training, such as the recording of a dataset.

    The trainer takes the signal over while it trains. A handler that a script has set stays.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("the run was asked to stop outside of training")


def _how_to_go_on(directory: Path) -> str:
    saved = any(layout.last_checkpoint(one) for one in [directory, *layout.stage_directories(directory)])
    run = layout.shown(directory)
    return f"to go on: mscore run --resume {run}" if saved else f"the run's directory is {run}; nothing was saved yet"


def _run_recorded(directory: Path, config: RunConfig) -> "Report | None":
    """Train a run or its stages, and write down what it is made of and how it ended."""
    from mscore.runs.provenance import plugin_records
    from mscore.runs.report import make_report

    record = RunRecord(directory, config, plugin_records(config))
    if is_rank_zero():
        record.begin()
    error: BaseException | None = None
    try:
        if config.stages:
            _run_stages(directory, config)
        else:
            _train(directory, config, record.plugins)
    except BaseException as caught:
        error = caught
        raise
    finally:
        if is_rank_zero():
            record.end(error)
    if not is_rank_zero():
        return None
    report = make_report(directory)
    report.write()
    return report


def _run_stages(directory: Path, config: RunConfig) -> None:
    previous: Path | None = None
    for number, stage in enumerate(config.stages, start=1):
        child = directory / layout.STAGES / f"{number}-{stage.name}"
        if layout.read_record(child).get("status") != FINISHED:
            child.mkdir(parents=True, exist_ok=True)
            _run_recorded(child, _handed_on(stage.config, previous))
        previous = child


def _handed_on(config: RunConfig, previous: Path | None) -> RunConfig:
    """A stage's config with the directory that ``init_from: previous`` means, so that it stands alone."""
    if config.init_from != "previous":
        return config
    source = str(previous)
    return dataclasses.replace(config, init_from=source, resolved={**config.resolved, "init_from": source})


def _train(directory: Path, config: RunConfig, plugins: Sequence[Mapping[str, Any]]) -> None:
    from mscore.config import build
    from mscore.contracts.trainer import Trainer
    from mscore.plugins import installed_plugins
    from mscore.runs.assembly import assemble
    from mscore.runs.provenance import used_plugins

    used = used_plugins(plugins) if is_rank_zero() else []
    run = assemble(config, directory, resume_from=layout.last_checkpoint(directory))
    error: BaseException | None = None
    try:
        installed_plugins().call_lifecycle("mscore_run_configured", used, config=config)
        trainer: Trainer = build(config.trainer, injected={"run": run})
        installed_plugins().call_lifecycle("mscore_run_started", used, run=run)
        trainer.fit(run)
    except SystemExit as caught:
        # Lightning turns Ctrl-C into an exit of its own.
        error = caught
        if isinstance(caught.__context__, KeyboardInterrupt):
            error = caught.__context__
            raise error from None
        raise
    except BaseException as caught:
        error = caught
        note_plugin(caught)
        raise
    finally:
        _close_loggers()
        _call_finished(used, run, error)


def _close_loggers() -> None:
    """End the Weights & Biases run of this process, or the next stage's would be written into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _call_finished(used: Sequence[Any], run: "Run", error: BaseException | None) -> None:
    from mscore.plugins import installed_plugins

    try:
        installed_plugins().call_lifecycle("mscore_run_finished", used, run=run, error=error)
    except Exception as failure:
        if error is None:
            raise
        # The run's own error is the one to report.
        notes = "; ".join(getattr(failure, "__notes__", []))
        warnings.warn(f"{type(failure).__name__}: {failure} ({notes})", stacklevel=2)

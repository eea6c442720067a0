"""The program: its global options, its exit codes, and how it says what went wrong.

Exit codes: 0 done, 1 failed, 2 a mistake in the config or the command, 75 interrupted and resumable
(``EX_TEMPFAIL``, by which a scheduler knows to start it again), 130 stopped at once with Ctrl-C.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import click

import mscore
from mscore.cli.commands import LazyGroup
from mscore.cli.options import TRACEBACK_VARIABLE, process_options
from mscore.errors import ConfigError, Interrupted, MscoreError, PluginError
from mscore.runs.ranks import is_rank_zero

FAILED, MISTAKE, INTERRUPTED, STOPPED = 1, 2, 75, 130


@click.group(cls=LazyGroup, path="", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mscore.__version__, prog_name="mscore", message="%(prog)s %(version)s")
@process_options
def program() -> None:
    """Train policies from configuration files.

    Losses, policies, callbacks, data, environments and trainers are plugins: `mscore plugins` lists them.
    """


def run_program(arguments: Sequence[str]) -> int:
    """Run one command and return the process's exit code.

    What a user can mend is said without a traceback. An exception that nobody foresaw is named with the
    place that raised it; ``--traceback`` or ``MSCORE_TRACEBACK=1`` shows all of it.
    """
    warnings.showwarning = _show_warning
    try:
        code = program.main(args=list(arguments), prog_name="mscore", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # click turns an interrupt into its own exception, which has the notes on its cause.
        _say("\n".join(["stopped by Ctrl-C", *_notes(error.__cause__ or error)]))
        return STOPPED
    except BrokenPipeError:
        # The reader has gone (`mscore plugins | head`); nothing is left to flush on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ConfigError as error:
        _say("\n".join(error.problems))
        return MISTAKE
    except Interrupted as error:
        if not is_rank_zero():
            # Stopped with it, as agreed: Lightning kills rank zero, which may still be saving, for a failed one.
            return 0
        _say_mistake(error)
        return INTERRUPTED
    except MscoreError as error:
        _say_mistake(error)
        return MISTAKE if isinstance(error, PluginError) else FAILED
    except Exception as error:
        _say_unforeseen(error)
        return FAILED


def _say(text: str) -> None:
    click.echo(text, err=True)


def _say_mistake(error: MscoreError) -> None:
    if _traceback_shown(error):
        return
    lead = "" if isinstance(error, Interrupted) else "error: "
    _say("\n".join([f"{lead}{error}", *_notes(error)]))


def _say_unforeseen(error: Exception) -> None:
    if _traceback_shown(error):
        return
    text = str(error).strip() or "no message"
    lines = [f"error: {type(error).__name__}: {text}", *_notes(error)]
    lines.append(f"raised in {_place(error)}")
    lines.append("Add --traceback (or set MSCORE_TRACEBACK=1) to see how it came there.")
    _say("\n".join(lines))


def _traceback_shown(error: Exception) -> bool:
    """Show the whole traceback if it is wanted, and say whether it was."""
    if os.environ.get(TRACEBACK_VARIABLE, "") in ("", "0"):
        return False
    import traceback

    traceback.print_exception(error)
    return True


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def _place(error: Exception) -> str:
    """Where an exception came from: the innermost line of a plugin, else of anything."""
    import traceback

    from mscore.plugins import CORE, installed_plugins

    frames = traceback.extract_tb(error.__traceback__)
    packages = [
        (plugin.label, plugin.file or os.path.dirname(file) + os.sep)
        for plugin in installed_plugins().loaded
        if plugin.name != CORE and (file := getattr(plugin.module, "__file__", None))
    ]
    for label, place in packages:
        for frame in reversed(frames):
            if frame.filename.startswith(place):
                return f"{frame.filename}:{frame.lineno} in {frame.name} ({label})"
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a user reads it: one line, with its place only where it is not written for users."""
    where = "" if category is UserWarning else f" ({category.__name__}, {filename}:{lineno})"
    _say(f"warning: {message}{where}")

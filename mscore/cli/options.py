"""Options of the process rather than of one command: accepted before and after the command's name."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from mscore.plugins import DISABLE_VARIABLE, installed_plugins, name_files

TRACEBACK_VARIABLE = "MSCORE_TRACEBACK"

F = TypeVar("F", bound=Callable[..., Any])


def process_options(function: F) -> F:
    """Add ``--plugin-file``, ``--without`` and ``--traceback``.

    They act through environment variables, so that the processes which a run starts (further ranks,
    data workers) behave as this one.
    """
    function = click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_want_traceback,
        help="Show the whole traceback of an error.",
    )(function)
    function = click.option(
        "--plugin-file",
        "plugin_file",
        multiple=True,
        metavar="FILE",
        expose_value=False,
        is_eager=True,
        callback=_name_files,
        help="Use this Python file as a plugin. Can be given several times.",
    )(function)
    return click.option(
        "--without",
        "without",
        multiple=True,
        metavar="PLUGIN",
        expose_value=False,
        is_eager=True,
        callback=_block,
        help="Do not load this plugin. Can be given several times.",
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def _block(context: click.Context, parameter: click.Parameter, names: Sequence[str]) -> None:
    if not names:
        return
    blocked = [name for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]
    os.environ[DISABLE_VARIABLE] = ",".join(dict.fromkeys([*blocked, *names]))
    installed_plugins.cache_clear()


def _name_files(context: click.Context, parameter: click.Parameter, paths: Sequence[str]) -> None:
    if paths:
        name_files(paths)


def _want_traceback(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.environ[TRACEBACK_VARIABLE] = "1"

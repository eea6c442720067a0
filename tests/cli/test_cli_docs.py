"""The guides' commands: what they show is accepted by the program, and files they name exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

from mscore.cli.program import program
from mscore.plugins import installed_plugins

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("run.md", "plugins.md", "schema.md", "export.md", "recipes.md", "evaluate.md")
COMMANDS = [
    (page, line)
    for page in PAGES
    for block in re.findall(r"```\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("mscore ") and not re.match(r"mscore +mscore ", line)
]


@pytest.fixture
def restored(monkeypatch):
    """What one test leaves out with ``--without``, or names with ``--plugin-file``, the next does not see."""
    for variable in ("MSCORE_DISABLE_PLUGINS", "MSCORE_PLUGIN_FILES"):
        monkeypatch.setenv(variable, "")
    yield
    installed_plugins.cache_clear()


@pytest.mark.parametrize(("page", "line"), COMMANDS)
@pytest.mark.usefixtures("restored")
def test_a_command_in_the_guides_is_one_that_the_program_takes(page, line):
    with program.make_context("mscore", shlex.split(line)[1:]) as context:
        while isinstance(context.command, click.Group):
            if not context._protected_args and not context.args:
                return
            words = [*context._protected_args, *context.args]
            name, command, rest = context.command.resolve_command(context, words)
            assert command is not None
            context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_the_guides_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+\.md)", (DOCS / page).read_text())
    assert [link for link in links if not (DOCS / link).exists()] == []

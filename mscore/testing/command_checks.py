"""What a command must do: be a click command that says what it is for."""

import click

from mscore.testing.checks import check, require
from mscore.testing.subjects import ComponentSubject

COMMAND = "command"


@check(COMMAND, "is-a-command", remedy="decorate the function with `@click.command()` and register that")
def is_a_command(subject: ComponentSubject) -> None:
    """Its import string names a click command."""
    found = subject.component.load()
    require(isinstance(found, click.Command), f"it is a {type(found).__name__}, expected a click command")


@check(COMMAND, "says-what-it-does", remedy="write a docstring: its first sentence is the help", advice=True)
def says_what_it_does(subject: ComponentSubject) -> None:
    """`--help` says what it does."""
    found = subject.component.load()
    require(isinstance(found, click.Command) and found.help, "it has no help")

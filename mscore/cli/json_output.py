"""JSON for programs."""

from typing import Any

import click


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    from mscore.runs import strict_json

    click.echo(strict_json.dumps(value))

"""``mscore schema``: configs for editors."""

import click

from mscore.cli.options import process_options


@click.command()
@process_options
def schema() -> None:
    """Print the JSON schema of configs for the installed components.

    Save it and name it in a config's first line, and an editor completes and checks the config:
    # yaml-language-server: $schema=mscore.schema.json

    Every component is imported, and torch with them. One that cannot be is named on standard error, and what
    a config says about it is not checked.
    """
    from mscore.config.editor_schema import config_schema
    from mscore.runs import strict_json

    document, problems = config_schema()
    click.echo(strict_json.dumps(document))
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)

"""``mscore deps``: what to install for a config."""

import click

from mscore.cli.options import json_option, process_options


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@process_options
def deps(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the `pip install` line for CONFIG, a YAML file or the name of a recipe.

    The plugins need not be installed: mscore knows the published ones by the names that they provide. What
    is installed is required with its version or a newer one, unless the config's `requires` says otherwise.
    """
    from mscore.config.needs import config_needs
    from mscore.errors import ConfigError

    needs = config_needs(config, overrides)
    if as_json:
        from mscore.cli.json_output import print_json

        print_json(
            {
                "command": needs.command,
                "distributions": [
                    {
                        "distribution": need.distribution,
                        "requirement": need.requirement,
                        "installed": need.installed,
                        "needed_for": need.paths,
                    }
                    for need in needs.distributions
                ],
                "plugin_files": needs.files,
                "problems": needs.problems,
            }
        )
    else:
        click.echo(needs.command)
        for file in needs.files:
            click.echo(f"and the plugin file {file}, as --plugin-file", err=True)
    if needs.problems:
        raise ConfigError(needs.problems)

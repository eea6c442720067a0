"""``mscore plugins check``: a plugin held against the contracts, for everyone."""

from pathlib import Path
from typing import Any

import click

from mscore.cli.options import json_option, process_options
from mscore.errors import ConfigError, MscoreError


@click.command()
@click.argument("name")
@click.option(
    "--samples",
    "samples_file",
    type=click.Path(path_type=Path),
    help="YAML of constructor arguments by `kind/component`, for parameters that have no default.",
)
@click.option("-v", "--verbose", is_flag=True, help="Also show the checks that pass.")
@json_option
@process_options
def check(name: str, samples_file: Path | None, verbose: bool, as_json: bool) -> None:
    """Hold a plugin against what mscore expects of one.

    NAME is a plugin or a distribution. The checks take seconds and need no GPU; they run the plugin's code.
    Exits with 1 if a check fails.
    """
    from mscore.testing.collection import check_plugin

    outcomes = list(check_plugin(name, _read(samples_file)))
    failed = sum(outcome.status == "fail" for outcome in outcomes)
    if as_json:
        from mscore.cli.json_output import print_json

        fields = ("id", "status", "reason", "remedy")
        rows = [{**{f: getattr(one, f) for f in fields}, "seconds": round(one.seconds, 3)} for one in outcomes]
        print_json({"plugin": name, "failed": failed, "checks": rows})
    else:
        _print(outcomes, verbose)
    if failed:
        raise SystemExit(1)


def _read(path: Path | None) -> dict[str, Any]:
    """The samples of a file.

    Raises:
        MscoreError: there is no such file, or it is no mapping of mappings.
    """
    if path is None:
        return {}
    import yaml

    try:
        samples = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise MscoreError(f"the samples {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: {' '.join(str(error).split())}"]) from error
    if not isinstance(samples, dict) or not all(isinstance(value, dict) for value in samples.values()):
        raise MscoreError(f"{path}: expected a mapping of `kind/component` to constructor arguments")
    return samples


def _print(outcomes: list[Any], verbose: bool) -> None:
    from rich.text import Text

    from mscore.cli.tables import print_table

    styles = {"pass": "green", "fail": "red", "warning": "yellow", "skipped": "dim"}
    rows: list[list[str | Text]] = []
    for one in outcomes:
        text = f"{one.reason}. To mend it: {one.remedy}" if one.remedy else one.reason
        if verbose or one.status != "pass":
            rows.append([one.id, Text(one.status, style=styles[one.status]), text])
    if rows:
        print_table(["check", "result", "why"], rows)
        click.echo()
    counts = {status: sum(one.status == status for one in outcomes) for status in styles}
    said = {"pass": "passed", "fail": "failed", "warning": "with a warning", "skipped": "skipped"}
    seconds = sum(one.seconds for one in outcomes)
    summary = ", ".join(f"{count} {said[status]}" for status, count in counts.items() if count)
    click.echo(f"{len(outcomes)} checks in {seconds:.1f} s: {summary}")

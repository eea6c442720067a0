"""``mscore compare``."""

from pathlib import Path

import click

from mscore.cli.options import json_option, process_options


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--measure", type=click.Choice(["success", "return", "length"]), default="success", show_default=True, help="What."
)
@click.option("--stage", help="Which stage of runs that have some.  [default: the last that was evaluated]")
@click.option(
    "--to", type=click.Path(path_type=Path), default="compare.png", show_default=True, help="The figure: PNG, PDF, SVG."
)
@json_option
@process_options
def compare(runs: tuple[str, ...], measure: str, stage: str | None, to: Path, as_json: bool) -> None:
    """Draw how several RUNs did while they trained, in one figure.

    Runs of the same name, such as those of several seeds, make one curve: their mean, in a band from the
    worst to the best.
    """
    from mscore.runs.comparing import compare_runs, draw

    curves = compare_runs(runs, measure, stage)
    draw(curves, measure, to)
    if as_json:
        from mscore.cli.json_output import print_json

        print_json({"measure": measure, "figure": str(to), "curves": [curve.to_dict() for curve in curves]})
        return
    from mscore.cli.tables import print_table

    rows = [
        [curve.label, str(curve.runs), f"{curve.mean[0]:.3f}", f"{curve.mean[-1]:.3f}", f"{max(curve.mean):.3f}"]
        for curve in curves
        if curve.steps
    ]
    print_table(["run", "runs", f"first {measure}", "last", "best"], rows)
    click.echo(f"figure: {to}")

"""``mscore evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mscore.cli.options import json_option, process_options
from mscore.plugins import installed_plugins

if TYPE_CHECKING:
    from mscore.runs.evaluating import RunEvaluation


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--episodes", type=click.IntRange(min=1), default=200, show_default=True, help="How many to play.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the first episode; the others follow.")
@click.option("--sample", is_flag=True, help="Sample actions instead of taking the most probable ones.")
@click.option("--ema/--trained", "averaged", default=None, help="Which weights; averaged ones where there are any.")
@click.option("--video/--no-video", default=True, show_default=True, help="Film the first episodes.")
@click.option("--device", help="Where the policy computes, such as cpu or cuda:1.  [default: a GPU if there is one]")
@json_option
@process_options
def evaluate(
    run_dir: Path,
    episodes: int,
    seed: int | None,
    sample: bool,
    averaged: bool | None,
    video: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Let the policy of RUN_DIR act in the environment of the run's config.

    Prints return and success rate with their 95% intervals, and keeps them in the run's directory with a
    film and a picture of the first episodes.
    """
    installed_plugins().refuse_failed()
    from mscore.cli.progress import progress_bar
    from mscore.runs.evaluating import evaluate_run

    settings: dict[str, Any] = {"episodes": episodes, "deterministic": not sample}
    if seed is not None:
        settings["seed"] = seed
    with progress_bar("playing episodes", episodes, hidden=as_json) as advance:
        evaluation = evaluate_run(
            run_dir,
            averaged=averaged,
            video=video,
            device=device,
            progress=lambda result: advance(1),
            **settings,
        )
    if as_json:
        from mscore.cli.json_output import print_json

        print_json(evaluation.to_dict())
    else:
        _print(evaluation)


def _print(evaluation: "RunEvaluation") -> None:
    from mscore.runs.directory import shown

    weights = "averaged" if evaluation.averaged else "trained"
    click.echo(f"{weights} weights of {evaluation.checkpoint}")
    click.echo(str(evaluation.result.summary))
    if evaluation.untrained is not None:
        click.echo(f"before training: {evaluation.untrained}")
    for label, path in (("video", evaluation.result.video), ("picture", evaluation.result.picture)):
        if path is not None:
            click.echo(f"{label}: {shown(path)}")
    click.echo(f"all episodes: {shown(evaluation.folder)}/evaluation.json")

"""Several runs in one figure: which evaluations count, what makes one curve, and what is refused."""

import json

import pytest
from click.testing import CliRunner

from mscore.cli.compare import compare
from mscore.errors import MscoreError
from mscore.runs.comparing import compare_runs, draw

pytest.importorskip("matplotlib")


@pytest.fixture
def run(tmp_path):
    """Lay down what a run leaves: its record, and its evaluations or its stages'."""

    def make(name, number, successes=(), **stages):
        directory = tmp_path / "runs" / name / str(number)
        write(directory, name, successes)
        for index, (stage, values) in enumerate(stages.items(), start=1):
            write(directory / "stages" / f"{index}-{stage}", stage, values)
        return directory

    def write(directory, name, successes):
        directory.mkdir(parents=True)
        (directory / "config.yaml").write_text("{}\n")
        (directory / "run.json").write_text(json.dumps({"name": name}))
        rows = [
            {"step": 100 * i, "time": "", "seconds": 1, "weights": "trained", "episodes": 4, "return_mean": -1.0,
             "length_mean": 9.0, "success_interval": [0, 1], "success_rate": value}
            for i, value in enumerate(successes)
        ]  # fmt: skip
        if rows:
            lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in rows]
            (directory / "evaluations.jsonl").write_text("".join(line + "\n" for line in lines))

    return make


def test_runs_of_one_name_make_one_curve(run):
    a, b, other = run("held", 1, [0.5, 0.75, 1.0]), run("held", 2, [0.5, 0.25]), run("free", 1, [0.5, 0.0])
    held, free = compare_runs([a, b, other])
    assert (held.label, held.runs, free.label, free.runs) == ("held", 2, "free", 1)
    assert held.steps == [0, 100]  # where both were evaluated
    assert held.mean == [0.5, 0.5]
    assert (held.least[1], held.greatest[1]) == (0.25, 0.75)
    assert compare_runs([other], "return")[0].mean == [-1.0, -1.0]


def test_the_last_stage_that_was_evaluated_counts_unless_another_is_named(run):
    staged = run("staged", 1, clone=[0.1, 0.2], online=[0.2, 0.9], after=[])
    assert compare_runs([staged])[0].mean == [0.2, 0.9]
    assert compare_runs([staged], stage="clone")[0].mean == [0.1, 0.2]
    with pytest.raises(MscoreError, match="no stage 'clonee'; stages: clone, online, after"):
        compare_runs([staged], stage="clonee")


def test_what_cannot_be_compared_is_named(run, tmp_path):
    with pytest.raises(MscoreError, match="was not evaluated while it trained"):
        compare_runs([run("silent", 1)])
    with pytest.raises(MscoreError, match="does not exist"):
        compare_runs([tmp_path / "nowhere"])
    unknown = run("unknown", 1, [None])
    with pytest.raises(MscoreError, match="has no success"):
        compare_runs([unknown])
    assert compare_runs([unknown], "return")[0].mean == [-1.0]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_figure_is_written(run, tmp_path, suffix):
    curves = compare_runs([run("held", 1, [0.5, 1.0]), run("held", 2, [0.5, 0.5]), run("free", 1, [0.5, 0.0])])
    path = tmp_path / "figures" / f"compare{suffix}"
    draw(curves, "success", path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") or b"<svg" in content
    assert len(content) > 5000


def test_the_command_draws_and_prints(run, tmp_path):
    runs = [str(run("held", 1, [0.5, 1.0])), str(run("free", 1, [0.5, 0.0]))]
    figure = tmp_path / "figure.png"
    result = CliRunner().invoke(compare, [*runs, "--to", str(figure)])
    assert result.exit_code == 0, result.output
    assert figure.stat().st_size > 5000
    assert [line.split() for line in result.output.splitlines()[1:3]] == [
        ["held", "1", "0.500", "1.000", "1.000"],
        ["free", "1", "0.500", "0.000", "0.500"],
    ]
    result = CliRunner().invoke(compare, [*runs, "--to", str(figure), "--json"])
    assert [curve["label"] for curve in json.loads(result.output)["curves"]] == ["held", "free"]

import json

import pytest

import mscore
from mscore.runs.report import duration, make_report

CONFIG = {"defaults": ["tiny"], "trainer": {"max_steps": 8}}


def write_metrics(folder, rows):
    (folder / "config.yaml").write_text("policy: tiny\ndata: tiny\nobjectives: {imitate: {}}\n")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")


def test_metrics_are_told_by_their_first_last_and_best_value(tiny):
    rows = ["step,train/loss,val/accuracy,lr", "1,3.0,,0.1", "2,1.0,0.9,0.1", "3,nan,0.5,0.2", "4,2.0,,0.3"]
    write_metrics(tiny, rows)
    report = make_report(tiny)
    found = {metric.name: (metric.first, metric.last, metric.best, metric.best_step) for metric in report.metrics}
    assert found == {
        "train/loss": (3.0, 2.0, 1.0, 2),
        "val/accuracy": (0.9, 0.5, 0.9, 2),
        "lr": (0.1, 0.3, None, None),  # nobody knows which learning rate is good
    }
    assert report.step == 4


def test_a_row_that_a_kill_cut_short_does_not_count(tiny):
    write_metrics(tiny, ["step,train/loss,val/loss", "1,3.0,2.0", "2,1"])
    assert make_report(tiny).step == 1


def test_numbers_that_json_cannot_say_are_text(tiny):
    write_metrics(tiny, ["step,train/loss", "1,inf"])
    make_report(tiny).write()
    data = json.loads((tiny / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["metrics"][0]["last"] == "inf"


def test_evaluations_are_reported_and_what_to_type_next(tiny):
    config = {**CONFIG, "evaluation": {"episodes": 2}}
    report = mscore.run(config, ["callbacks.running-mean={}"]).report
    assert [row["step"] for row in report.evaluations] == [0, 8]
    assert report.evaluations[-1]["weights"] == "averaged"
    run = f"runs/run/{report.directory.name}"
    assert report.next == [
        f"mscore evaluate {run}",
        f"mscore export {run} --ema --to DIR",
        f"mscore run --resume {run} trainer.max_steps=N",
    ]
    page = (report.directory / "report.md").read_text()
    assert "| 0 |" in page
    assert "checkpoints/last.ckpt" in page


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (185, "3 min 5 s"), (7830, "2 h 10 min")])
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text

"""CSV, TensorBoard and offline Weights & Biases, from the same config key, for real."""

import csv

import mscore


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_three_loggers_write_the_same_rows(tiny, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = {
        "defaults": ["tiny"],
        "log_freq": 4,
        "trainer": {"max_steps": 8},
        "loggers": {"tensorboard": {}, "wandb": {"project": "tiny", "offline": True}},
    }
    directory = mscore.run(config).directory
    with (directory / "metrics.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    board = scalars(directory / "tensorboard")
    assert [step for step, _ in board["train/loss"]] == [1, 4, 8] == sorted(rows)
    for step, value in board["train/loss"]:
        assert abs(value - float(rows[step]["train/loss"])) < 1e-6
    (log,) = (directory / "wandb").glob("offline-run-*/*.wandb")
    assert log.stat().st_size > 0

    mscore.run(resume=directory, overrides=["trainer.max_steps=12"])
    assert [step for step, _ in scalars(directory / "tensorboard")["train/loss"]] == [1, 4, 8, 9, 12]
    with (directory / "metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 4, 8, 9, 12]


def test_stages_are_runs_of_their_own_for_wandb(tiny, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = {
        "defaults": ["tiny"],
        "trainer": {"max_steps": 2},
        "loggers": {"wandb": {"offline": True}},
        "stages": [{"name": "one"}, {"name": "two", "init_from": "previous"}],
    }
    directory = mscore.run(config).directory
    logs = [path.name for path in directory.glob("stages/*/wandb/offline-run-*/*.wandb")]
    assert len(logs) == 2
    assert {("1-one" in name, "2-two" in name) for name in logs} == {(True, False), (False, True)}

"""The recipe through the command line: it trains, goes on, and says what is wrong with the data."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

DATASET = Path(__file__).parent / "golden" / "minestudio" / "dataset"
SMALL = ["data.frame_width=32", "data.frame_height=32", "data.win_len=32", "policy.hiddim=16"]


def mscore(directory, *arguments, expected=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "mscore", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr


def train(directory, dataset, *overrides, **options):
    return mscore(directory, "run", "minestudio-bc", f"data.dataset_dirs=[{dataset}]", *SMALL, *overrides, **options)


@pytest.fixture
def place(dataset, change_chunk):
    """Where a dataset's video is cut off."""
    return change_chunk(dataset, "image", "Player3-dddddd-20220103-083000", 128, lambda raw: raw[: len(raw) // 2])


def metrics(directory):
    with open(directory / "runs" / "minestudio-bc" / "latest" / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_trains_buttons_and_camera_with_validation_and_goes_on(tmp_path):
    train(tmp_path, DATASET, "trainer.max_steps=8", "trainer.val_check_interval=4", "log_freq=4")
    rows = metrics(tmp_path)
    for name in ("train/bc/button_loss", "train/bc/camera_loss", "val/bc/loss"):
        assert any(row[name] for row in rows), name
    mscore(tmp_path, "run", "--resume", "runs/minestudio-bc/latest", "trainer.max_steps=12")
    assert metrics(tmp_path)[-1]["step"] == "12"


@pytest.mark.slow
def test_the_same_in_two_processes(tmp_path):
    # bc alone does not train the value head.
    two = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp_find_unused_parameters_true"]
    train(tmp_path, DATASET, "trainer.max_steps=4", *two)
    assert metrics(tmp_path)[-1]["step"] == "4"


def test_events_with_everything_that_is_stored(tmp_path):
    everything = [
        "data.mode=event",
        "data.enable_segment=true",
        "data.enable_meta_info=true",
        "data.enable_prev_action=true",
    ]
    train(tmp_path, DATASET, *everything, "data.episode_continuous_batch=false", "trainer.max_steps=4")
    assert metrics(tmp_path)[-1]["step"] == "4"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_chunk_that_cannot_be_read_ends_the_run_with_one_line(tmp_path, dataset, place, workers):
    said = train(tmp_path, dataset, "data.split_ratio=1.0", f"data.num_workers={workers}", expected=1)
    assert f"error: {place}" in said
    assert "Traceback" not in said


def test_windows_that_cannot_be_read_are_counted_at_the_end(tmp_path, dataset, place):
    said = train(tmp_path, dataset, "data.split_ratio=1.0", "data.on_error=skip", "trainer.max_epochs=1")
    assert "warning: left out, as they cannot be read: 1 window of 1 episode" in said
    assert place in said


def test_a_misspelt_parameter_is_found_before_anything_is_built(tmp_path):
    said = train(tmp_path, DATASET, "data.win_length=3", expected=2)
    assert "data.win_length: unknown parameter" in said
    assert "Did you mean 'data.win_len'?" in said
    assert not (tmp_path / "runs").exists()

"""Several processes: each rank sees its rows of what one process sees, and resumes at the exact batch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATASET = Path(__file__).parent / "golden" / "minestudio" / "dataset"
SCRIPT = Path(__file__).with_name("mine_fit.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The golden dataset as two: each has one part of every modality."""
    folders = [tmp_path_factory.mktemp("data") / name for name in ("dataset_6xx", "dataset_7xx")]
    for folder, part in zip(folders, ("part-4", "part-7"), strict=True):
        for modality in ("image", "action", "segmentation"):
            shutil.copytree(DATASET / modality / part, folder / modality / part)
    return [str(folder) for folder in folders]


def fit(directory, folders, *, devices=1, resume=None, **given):
    """What was seen at every step: rows of all ranks, side by side."""
    directory.mkdir()
    small = {"size": 32, "win_len": 16, "batch_size": 2, "num_workers": 0, "epochs": 2, "continuous": True}
    arguments = {
        **small, **given, "directory": str(directory), "dataset_dirs": folders, "devices": devices, "resume": resume
    }  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, str(SCRIPT), json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((directory / f"seen-{rank}.json").read_text()) for rank in range(devices)]
    assert len({len(seen) for seen in ranks}) == 1
    return [[row for rows in step for row in rows] for step in zip(*ranks, strict=True)]


def test_two_ranks_share_the_rows_of_one_process_and_resume(tmp_path, folders):
    together = fit(tmp_path / "two", folders, devices=2, num_workers=2)
    assert together == fit(tmp_path / "one", folders, batch_size=4)
    seen = [(episode, start) for step in together for episode, start, _ in step if episode]
    assert len(seen) == 2 * len(set(seen)), "every window once in both of the epochs"
    for step in together:
        playing = [episode for episode, _, _ in step if episode]
        assert len(playing) == len(set(playing)), "no two rows share an episode"
    (saved,) = (tmp_path / "two").glob("step=4.ckpt")
    resumed = fit(tmp_path / "resumed", folders, devices=2, num_workers=1, resume=str(saved))
    assert resumed == together[4:]


@pytest.mark.slow
def test_two_ranks_share_windows_that_stand_alone(tmp_path, folders):
    together = fit(tmp_path / "two", folders, devices=2, continuous=False, epochs=1)
    assert together == fit(tmp_path / "one", folders, batch_size=4, continuous=False, epochs=1)


@pytest.mark.slow
def test_the_tutorials_data_with_eight_rows_and_eight_workers(tmp_path, folders):
    tutorial = {"size": 224, "win_len": 128, "num_workers": 8, "epochs": 1}
    together = fit(tmp_path / "two", folders, devices=2, batch_size=8, **tutorial)
    assert together == fit(tmp_path / "one", folders, batch_size=16, **{**tutorial, "num_workers": 0})

"""The demo recipe, through the command line."""

import json
import os
import subprocess
import sys

import pytest


def run_recipe(directory, *overrides):
    environment = {**os.environ, "MSCORE_CACHE": str(directory / "cache")}
    command = [sys.executable, "-m", "mscore", "run", "unlock-pickup", *overrides]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (history,) = {path.resolve() for path in (directory / "runs" / "unlock-pickup").glob("*/evaluations.jsonl")}
    lines = history.read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_runs(tmp_path):
    evaluations = run_recipe(
        tmp_path, "data.episodes=24", "trainer.max_steps=4", "evaluation.episodes=2", "data.batch_size=8"
    )
    assert [row["step"] for row in evaluations] == [0, 4]
    assert len(list((tmp_path / "cache" / "minigrid").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_learns_to_unlock_and_pick_up(tmp_path, seed):
    evaluations = run_recipe(tmp_path, f"seed={seed}")
    assert evaluations[0]["success_rate"] <= 0.02
    assert evaluations[-1]["episodes"] == 200
    assert evaluations[-1]["success_rate"] >= 0.95

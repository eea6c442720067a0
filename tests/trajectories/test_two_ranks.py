"""Two processes see what the lanes of one process see, also after a resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("two_rank_fit.py")


def fit(directory, devices, batch_size, *resume):
    directory.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(directory), str(devices), str(batch_size), *map(str, resume)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((directory / f"seen-{rank}.json").read_text()) for rank in range(devices)]
    assert len({len(seen) for seen in ranks}) == 1
    return [[window for row in rows for window in row] for rows in zip(*ranks, strict=True)]


def test_the_ranks_share_the_lanes_of_one_process(tmp_path):
    together = fit(tmp_path / "two", 2, 2)
    assert together == fit(tmp_path / "one", 1, 4)
    resumed = fit(tmp_path / "resumed", 2, 2, tmp_path / "two" / "at-step=4.ckpt")
    assert resumed == together[4:]

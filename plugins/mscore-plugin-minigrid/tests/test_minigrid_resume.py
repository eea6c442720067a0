"""A fit that is killed goes on to the very same weights."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("killed_fit.py")


def start(root, directory, workers, resume=None):
    command = [sys.executable, str(SCRIPT), str(root), str(directory), str(workers)]
    return subprocess.Popen(
        [*command, *([str(resume)] if resume else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return dict(re.findall(r"^(\d+) (\S+)$", output, re.MULTILINE))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root, directory = tmp_path_factory.mktemp("data") / "dataset", tmp_path_factory.mktemp("run")
    losses = finish(start(root, directory, 0))
    assert len(losses) == 20
    return root, losses, torch.load(directory / "last.pt")


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("killed_at", "workers"), [(8, 2), pytest.param(11, 0, marks=SLOW), pytest.param(15, 2, marks=SLOW)]
)
def test_killed_and_resumed(uninterrupted, tmp_path, killed_at, workers):
    root, losses, weights = uninterrupted
    process = start(root, tmp_path, workers)
    for line in process.stdout:
        if line.startswith(f"{killed_at} "):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    # The newest file may be half written: the one before it is whole.
    saved = max(int(path.stem) for path in tmp_path.glob("*.ckpt") if int(path.stem) <= killed_at - 1)
    resumed = finish(start(root, tmp_path, workers, tmp_path / f"{saved}.ckpt"))
    assert resumed == {step: loss for step, loss in losses.items() if int(step) > saved}
    last = torch.load(tmp_path / "last.pt")
    assert all(torch.equal(last[name], weights[name]) for name in weights)

"""SIGTERM before the training begins: the run's record says how it ended."""

import json
import signal
import subprocess
import sys
import time

import pytest

SLOW_DATA = """
import time
from pathlib import Path

from mscore import hookimpl
from mscore.testing import TinyDataModule


class SlowData(TinyDataModule):
    def prepare_data(self) -> None:
        Path("preparing").touch()
        time.sleep(120)


@hookimpl
def mscore_datamodules():
    return {"slow": f"{__name__}:SlowData"}
"""
CONFIG = """
name: early
policy: recurrent
data: slow
objectives: {bc: {}}
trainer: {max_steps: 3, accelerator: cpu}
"""


@pytest.fixture
def preparing(tmp_path):
    """A run that is preparing its data, in its own process."""
    (tmp_path / "slow_data.py").write_text(SLOW_DATA)
    (tmp_path / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "mscore", "run", "config.yaml", "--plugin-file", "slow_data.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "preparing").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        yield process
        process.kill()


def test_sigterm_while_data_is_prepared_is_recorded(preparing, tmp_path):
    assert preparing.poll() is None, preparing.communicate()[0]
    preparing.send_signal(signal.SIGTERM)
    said, _ = preparing.communicate(timeout=60)
    assert preparing.returncode == 75, said
    assert "asked to stop" in said
    assert "Traceback" not in said
    record = tmp_path / "runs" / "early" / "latest" / "run.json"
    assert json.loads(record.read_text())["status"] == "interrupted"

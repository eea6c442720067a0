"""Processes that save one file name again and again are killed, over and over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mscore import AtomicCheckpointIO

# Imports once and forks the trainings: most of a kill's time would be importing torch.
PROGRAM = """
import os, random, signal, sys, time, warnings
import torch
import lightning.pytorch as pl
from torch import nn
from torch.utils.data import DataLoader
from mscore import AVERAGED_OF_KEY
from mscore_plugin_ema import EMA
from mscore_plugin_smart_ckpt import SmartCheckpointCallback

warnings.filterwarnings("ignore")

class Wide(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(400, 400, bias=False)
        nn.init.zeros_(self.net.weight)
    def training_step(self, batch, batch_idx):
        return self.net.weight.sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

def train(folder):
    saver = SmartCheckpointCallback(
        dirpath=folder, filename="pair", save_top_k=1, every_n_train_steps=1, enable_version_counter=False
    )
    pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_steps=10**9,
        max_epochs=-1, callbacks=[saver, EMA(0.0)],
    ).fit(Wide(), DataLoader(torch.zeros(1000, 1)))

folder, kills = sys.argv[1], int(sys.argv[2])
moments = random.Random(kills)
plain, twin = folder + "/pair.ckpt", folder + "/pair-EMA.ckpt"
for _ in range(kills):
    started = time.time()
    child = os.fork()
    if child == 0:
        train(folder)
        os._exit(1)
    while not (os.path.exists(plain) and os.stat(plain).st_mtime > started):
        assert time.time() - started < 120, "nothing was saved"
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the training ended"
        time.sleep(0.005)
    time.sleep(moments.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved, averaged = (torch.load(path, weights_only=True) for path in (plain, twin))
    for checkpoint in (saved, averaged):  # every file is whole: each step takes one off every weight
        assert torch.all(checkpoint["state_dict"]["net.weight"] == -checkpoint["global_step"])
    # The twin is renamed first: a kill between the two renames leaves it one save ahead, and it says so.
    assert averaged[AVERAGED_OF_KEY] - saved["global_step"] in (0, 1)
    print("whole", saved["global_step"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_kill_at_any_moment_leaves_a_whole_pair(tmp_path: Path, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(kills)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("whole") == kills
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "next.ckpt")  # removes what the killed ones left
    assert {path.name for path in tmp_path.iterdir()} == {"pair.ckpt", "pair-EMA.ckpt", "next.ckpt"}

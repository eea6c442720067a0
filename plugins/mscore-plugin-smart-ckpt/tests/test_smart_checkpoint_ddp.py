"""Two processes (gloo, CPU) with the tutorial's callbacks: the ranks agree, one pair is written, fits resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys, warnings
import torch
import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from mscore_plugin_ema import EMA
from mscore_plugin_smart_ckpt import SmartCheckpointCallback
from mscore_plugin_speed_monitor import SpeedMonitorCallback

warnings.filterwarnings("ignore")

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.unused = nn.Linear(1, 1)
        self.validated = None
    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()
    def validation_step(self, batch, batch_idx):
        self.validated = self.net[0].weight.detach().clone()
        self.log("val_loss", self.net(batch).square().mean(), sync_dist=True)
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.05)

def fit(folder, epochs, resume=None):
    torch.manual_seed(0)
    saver = SmartCheckpointCallback(
        dirpath=folder, filename="{step}", every_n_train_steps=4, save_top_k=1, save_last="link"
    )
    ema, module = EMA(0.5), Net()
    logger = CSVLogger(folder + "/logs", name="", version="")
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true", max_epochs=epochs, logger=logger,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[SpeedMonitorCallback(interval=4), saver, ema],
    )
    data = DataLoader(torch.randn(64, 3), batch_size=4)
    trainer.fit(module, data, DataLoader(torch.randn(8, 3), batch_size=4), ckpt_path=resume)
    with ema.averaged_weights_in_place():
        average = module.net[0].weight.detach().clone()
    return trainer, module, average

folder = sys.argv[1]
trainer, module, average = fit(folder, 1)
resumed, module2, _ = fit(folder, 2, resume="last")
both = resumed.strategy.all_gather(torch.stack([module.net[0].weight.detach(), average, module.validated]))
if resumed.is_global_zero:
    print("RESULT" + json.dumps({
        "ranks_agree": bool(torch.equal(both[0], both[1])),
        "validated_the_average": bool(torch.equal(both[0][1], both[0][2])),
        "average_differs": not torch.equal(both[0][0], both[0][1]),
        "steps": resumed.global_step,
    }))
torch.distributed.destroy_process_group()  # or its threads sometimes abort the interpreter's end
"""


def test_two_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if "RESULT" in line)
    result = json.loads(line[line.index("RESULT") + len("RESULT") :])
    assert result == {"ranks_agree": True, "validated_the_average": True, "average_differs": True, "steps": 16}
    files = {path.name for path in folder.iterdir()} - {"logs"}
    assert files == {"step=16.ckpt", "step=16-EMA.ckpt", "last.ckpt", "last-EMA.ckpt"}
    assert "speed/frames_per_second" in (folder / "logs" / "metrics.csv").read_text()

"""The ROCKET-1 tutorial's trainer settings and callbacks, in a plain Lightning script and two processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

# The seeds' script with its import lines changed, and a small policy and data module of its own.
SCRIPT = '''
import sys
import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf

from mscore.offline import MineLightning, convert_to_normal
from mscore.testing import TinyPolicy, tiny_batch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_ema import EMA
from mscore_plugin_smart_ckpt import SmartCheckpointCallback
from mscore_plugin_speed_monitor import SpeedMonitorCallback


class Windows(torch.utils.data.Dataset):
    """Window k of row r of rank's episodes, continuous from batch to batch."""

    def __len__(self):
        return 4000

    def __getitem__(self, index):
        return tiny_batch(batch_size=2, start=4 * index, seed=index)


class OwnBatches(torch.utils.data.Sampler):
    def __init__(self, trainer):
        self.trainer = trainer

    def __len__(self):
        return 40

    def __iter__(self):
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed
        rank = self.trainer.global_rank
        return iter([[100 * rank + index] for index in range(done, 40)])


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(
            Windows(), batch_sampler=OwnBatches(self.trainer), collate_fn=lambda rows: rows[0]
        )

    def val_dataloader(self):
        return torch.utils.data.DataLoader([tiny_batch(seed=7)], batch_size=None, collate_fn=dict)


folder, max_steps, ckpt_path = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or [None])[0]
args = OmegaConf.create({"objective_weight": 0.01, "save_freq": 4, "model": {"hiddim": 8}})
episode_continuous_batch = True
L.seed_everything(3)
mine_lightning = MineLightning(
    mine_policy=TinyPolicy(),
    log_freq=20,
    learning_rate=0.004,
    weight_decay=0.001,
    warmup_steps=20,
    callbacks=[BehaviorCloneCallback(weight=args.objective_weight)],
    hyperparameters=convert_to_normal(args),
)
callbacks = [
    LearningRateMonitor(logging_interval="step"),
    SpeedMonitorCallback(),
    SmartCheckpointCallback(
        dirpath=f"{folder}/weights", filename="weight-{epoch}-{step}", save_top_k=-1,
        every_n_train_steps=args.save_freq, save_weights_only=True,
    ),
    SmartCheckpointCallback(
        dirpath=f"{folder}/checkpoints", filename="ckpt-{epoch}-{step}", save_top_k=1,
        every_n_train_steps=args.save_freq + 1, save_weights_only=False,
    ),
    EMA(decay=0.999, validate_original_weights=True, every_n_steps=8, cpu_offload=False),
]
L.Trainer(
    logger=CSVLogger(folder),
    devices=2,
    accelerator="cpu",
    precision="bf16",
    strategy="ddp_find_unused_parameters_true",
    use_distributed_sampler=not episode_continuous_batch,
    callbacks=callbacks,
    gradient_clip_val=1.0,
    max_steps=max_steps,
    enable_progress_bar=False,
).fit(model=mine_lightning, datamodule=Data(), ckpt_path=ckpt_path)
torch.distributed.destroy_process_group()  # or its threads sometimes abort the interpreter's end
'''


def start(folder: Path, *arguments: object) -> subprocess.Popen:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *map(str, arguments)],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def step_of(path: Path) -> int:
    return int(re.search(r"step=(\d+)", path.name).group(1))


def full_checkpoints(folder: Path) -> list[Path]:
    found = [path for path in (folder / "checkpoints").glob("*.ckpt") if "-EMA" not in path.name]
    return sorted(found, key=step_of)


def finished(process: subprocess.Popen, timeout: float = 200) -> str:
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, output
    return output


@pytest.mark.timeout(600)
def test_two_processes_are_killed_and_resume_to_the_same_weights(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    finished(start(whole, 30))

    killed = start(broken, 4000)
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and not (full_checkpoints(broken) and killed.poll() is None):
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    last = full_checkpoints(broken)[-1]
    assert step_of(last) < 30
    finished(start(broken, 30, last))

    for kind in ("weights", "checkpoints"):
        ends = [sorted((folder / kind).glob("*.ckpt"), key=step_of)[-2:] for folder in (whole, broken)]
        assert [path.name for path in ends[0]] == [path.name for path in ends[1]]
        assert any("-EMA" in path.name for path in ends[0])
        for one, other in zip(*ends, strict=True):
            ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in (one, other))
            for name, value in ours.items():
                assert torch.equal(value, theirs[name]), (one.name, name)

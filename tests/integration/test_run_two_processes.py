"""``mscore run`` on two processes: killed at any moment, it resumes to the very same weights."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

CONFIG = """
name: pair
seed: 1
policy: {{use: recurrent, hiddim: 32}}
data: {{use: minigrid, env: BabyAI-UnlockPickup-v0, episodes: 24, win_len: 8, batch_size: 2, root: {root}}}
objectives: {{bc: {{weight: 0.01}}}}
optimizer: {{learning_rate: 4.0e-3, weight_decay: 1.0e-3}}
scheduler: {{warmup_steps: 20}}
trainer:
  max_steps: {steps}
  devices: 2
  accelerator: cpu
  precision: bf16-mixed
  strategy: ddp_find_unused_parameters_true
  use_distributed_sampler: false
  gradient_clip_val: 1.0
  checkpoint_every_n_steps: 7
callbacks:
  learning-rate-monitor: {{logging_interval: step}}
  speed-monitor: {{}}
  weights: {{use: smart-ckpt, dirpath: weights, save_top_k: -1, every_n_train_steps: 8, save_weights_only: true}}
  full: {{use: smart-ckpt, dirpath: full, save_top_k: 1, every_n_train_steps: 9}}
  ema: {{decay: 0.9, validate_original_weights: true, every_n_steps: 2}}
"""
STEPS = 60


def mscore(folder: Path, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "mscore", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def output_of(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output
    return output


def run_directory(folder: Path) -> Path:
    return next(path for path in (folder / "runs" / "pair").iterdir() if not path.is_symlink())


@pytest.mark.timeout(900)
def test_killed_run_resumes_to_the_same_weights(tmp_path):
    folders = []
    for name, steps in (("whole", STEPS), ("broken", 100_000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pair.yaml").write_text(CONFIG.format(root=tmp_path / "demonstrations", steps=steps))
        folders.append(folder)
    whole, broken = folders
    output_of(mscore(whole, "run", "pair.yaml"))

    process = mscore(broken, "run", "pair.yaml")
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and process.poll() is None:
        if list((broken / "runs").glob("pair/*/checkpoints/last.ckpt")):
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    directory = run_directory(broken)
    last = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] < STEPS
    assert len(last["memory"]) == 2
    output = output_of(mscore(broken, "run", "--resume", directory, f"trainer.max_steps={STEPS}"))
    assert re.search(rf"\b{STEPS} steps", output)

    ends = [
        torch.load(run_directory(folder) / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, broken)
    ]
    for key in ("state_dict", "averaged_weights"):
        for name, value in ends[0][key].items():
            assert torch.equal(value, ends[1][key][name]), (key, name)
    twins = [sorted(path.name for path in (run_directory(folder) / "full").iterdir()) for folder in (whole, broken)]
    assert twins[0] == twins[1]
    assert any("-EMA" in name for name in twins[0])

"""The scripts of MineStudio's tutorials: only import lines, the data's place and what a CPU has no room for change."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mscore_plugin_rocket import load_rocket_policy
from mscore_plugin_vpt import VPTPolicy, load_vpt_policy

ROOT = Path(__file__).parents[2]
TUTORIALS = Path(__file__).parent / "tutorials"
DATASET = ROOT / "plugins/mscore-plugin-minestudio/tests/golden/minestudio/dataset"

ARGUMENTS = """
from omegaconf import OmegaConf

args = OmegaConf.load("args.yaml")
ckpt_path = args.ckpt_path
episode_continuous_batch = True
"""
ONE_CPU = {"devices=8": "devices=1, accelerator='cpu', max_steps=args.max_steps, num_sanity_val_steps=0"}
SMALL = {
    **ONE_CPU,
    "win_len=128": "win_len=8",
    "batch_size=8": "batch_size=2",
    "num_workers=8": "num_workers=1",
}
SMALL_ROCKET = {
    **SMALL,
    "efficientnet_b0.ra_in1k": "test_resnet.r160_in1k",
    "hiddim=1024": "hiddim=32",
    "timesteps=128": "timesteps=8",
    "mem_len=128": "mem_len=8",
    "=224": "=64",
}
SMALL_GROOT = {**SMALL_ROCKET, "vit_base_patch32_clip_224.openai": "test_resnet.r160_in1k"}
del SMALL_GROOT["efficientnet_b0.ra_in1k"]
SMALL_VPT = {
    **SMALL,
    "every_n_train_steps=2000": "every_n_train_steps=2",
    "every_n_train_steps=2001": "every_n_train_steps=3",
}
TINY_VPT = {
    **{"hidsize": 32, "attention_heads": 4, "timesteps": 8, "attention_memory_size": 16, "impala_width": 0.25},
    **{"n_recurrence_layers": 2, "img_shape": [128, 128, 3], "impala_kwargs": {"post_pool_groups": 1}},
    **{"init_norm_kwargs": {"group_norm_groups": 1}, "use_pre_lstm_ln": False},
}


def our_modules():
    """MineStudio's module and name to ours, as the page for its users says."""
    page = (ROOT / "docs" / "minestudio.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `from (minestudio\S*) import [^`]*` \| `from (\S+) import ([^`]*)` \|", page, re.MULTILINE)
    return {(theirs, name): ours for theirs, ours, names in rows for name in names.split(", ")}


def with_our_imports(script):
    """The script with its import lines changed; what it does not use is left out."""
    modules, lines = our_modules(), []
    for line in script.splitlines():
        found = re.fullmatch(r"from (minestudio\S*) import (.*)", line)
        if found:
            names = found[2].split(", ")
            lines += [f"from {modules[found[1], name]} import {name}" for name in names]
        elif line not in ("import hydra", "from einops import rearrange"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def script(name, changes, prelude=ARGUMENTS):
    text = with_our_imports((TUTORIALS / f"{name}.py").read_text(encoding="utf-8"))
    text = re.sub(r"\[\s*'/nfs-shared-2[^\]]*\]", f"['{DATASET}']", text)
    assert str(DATASET) in text
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text.replace("# the script's own arguments\n", prelude)


def run(folder, text, hub, *, max_steps, save_freq=2, ckpt_path="null", model="{}", timeout=250):
    (folder / "train.py").write_text(text)
    (folder / "args.yaml").write_text(
        f"objective_weight: 0.01\nsave_freq: {save_freq}\nmax_steps: {max_steps}\n"
        f"ckpt_path: {ckpt_path}\nmodel: {model}\n"
    )
    environment = {**os.environ, **hub.environment, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    environment["PYTHONWARNINGS"] = "ignore"
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.ckpt"))


def test_rocket_1(tmp_path, hub):
    hub.backbone("test_resnet.r160_in1k")
    model = "{backbone: test_resnet.r160_in1k, hiddim: 32, num_heads: 8, num_layers: 4, timesteps: 8, mem_len: 8}"
    text = script("rocket1", SMALL_ROCKET)
    run(tmp_path, text, hub, max_steps=4, model=model)
    assert checkpoints(tmp_path / "weights") == [
        f"weight-epoch=0-step={step}{twin}.ckpt" for step in (2, 4) for twin in ("-EMA", "")
    ]
    assert checkpoints(tmp_path / "checkpoints") == ["ckpt-epoch=0-step=3-EMA.ckpt", "ckpt-epoch=0-step=3.ckpt"]
    for path in (tmp_path / "weights").glob("*step=4*.ckpt"):
        policy = load_rocket_policy(path)
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.equal(value, state[f"mine_policy.{name}"]) for name, value in policy.state_dict().items())
    run(tmp_path, text, hub, max_steps=6, ckpt_path="checkpoints/ckpt-epoch=0-step=3.ckpt", model=model)
    assert "weight-epoch=0-step=6-EMA.ckpt" in checkpoints(tmp_path / "weights")
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_fine_tuning_vpt(tmp_path, hub):
    torch.manual_seed(0)
    policy = VPTPolicy(TINY_VPT, temperature=2.0)
    policy.save_pretrained(hub.snapshot("CraftJarvis/MineStudio_VPT.foundation_model_2x"))
    run(tmp_path, script("vpt_finetune", SMALL_VPT), hub, max_steps=4)
    assert checkpoints(tmp_path / "weights") == ["weight-epoch=0-step=2.ckpt", "weight-epoch=1-step=4.ckpt"]
    assert checkpoints(tmp_path / "checkpoints") == ["ckpt-epoch=1-step=3.ckpt"]
    policy.save_pretrained(tmp_path / "before")
    tuned = load_vpt_policy(tmp_path / "before", tmp_path / "weights" / "weight-epoch=1-step=4.ckpt")
    before = policy.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in tuned.state_dict().items())


def losses(folder):
    (file,) = folder.glob("lightning_logs/version_0/metrics.csv")
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [float(row["train/loss"]) for row in rows if row.get("train/loss")]


def test_groot_with_the_objectives_as_the_guide_prints_them(tmp_path, hub):
    hub.backbone("test_resnet.r160_in1k")
    printed = "import lightning\nlightning.seed_everything(0)\n" + ARGUMENTS
    found = []
    for name, more in (("ours", ""), ("printed", (TUTORIALS / "objectives.py").read_text(encoding="utf-8"))):
        folder = tmp_path / name
        folder.mkdir()
        changes = {**SMALL_GROOT, "log_freq=20": "log_freq=1", "max_steps=args": "log_every_n_steps=1, max_steps=args"}
        changes["devices=8"] = SMALL_GROOT["devices=8"]
        run(folder, script("groot_kl", changes, printed + more), hub, max_steps=3)
        found.append(losses(folder))
    assert len(found[0]) == 3
    assert found[0] == pytest.approx(found[1], rel=2e-2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rocket_1_at_its_own_size(tmp_path, hub):
    # The pictures are smaller and one window is a batch, as a CPU's memory is.
    hub.backbone("efficientnet_b0.ra_in1k")
    changes = {**ONE_CPU, "=224": "=96", "batch_size=8": "batch_size=1", "num_workers=8": "num_workers=1"}
    model = (
        "{backbone: efficientnet_b0.ra_in1k, hiddim: 1024, num_heads: 8, num_layers: 4, timesteps: 128, mem_len: 128}"
    )
    run(tmp_path, script("rocket1", changes), hub, max_steps=2, save_freq=1, model=model, timeout=850)
    policy = load_rocket_policy(tmp_path / "weights" / "weight-epoch=0-step=2-EMA.ckpt")
    assert policy.initial_state(1)[1].shape == (1, 128, 1024)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_groot_at_its_own_size(tmp_path, hub):
    hub.backbone("vit_base_patch32_clip_224.openai")
    changes = {**ONE_CPU, "batch_size=8": "batch_size=1", "num_workers=8": "num_workers=1"}
    run(tmp_path, script("groot_kl", changes), hub, max_steps=1, timeout=850)
    (checkpoint,) = tmp_path.glob("lightning_logs/version_0/checkpoints/*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1

"""The recipe that fine-tunes VPT, on a small real dataset: it starts, learns, saves, resumes and exports."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_vpt import VPTPolicy, load_vpt_policy

import mscore
from mscore import MineLightning
from mscore.plugins import installed_plugins

DATASET = Path(__file__).parents[2] / "plugins/mscore-plugin-minestudio/tests/golden/minestudio/dataset"
SMALL_NETWORK = [
    *("policy.policy_kwargs.hidsize=32", "policy.policy_kwargs.attention_heads=4", "policy.policy_kwargs.timesteps=8"),
    *("policy.policy_kwargs.attention_memory_size=16", "policy.policy_kwargs.impala_width=0.25"),
    *("policy.policy_kwargs.n_recurrence_layers=2", "policy.policy_kwargs.img_shape=[64, 64, 3]"),
]
SMALL = [
    *SMALL_NETWORK,
    *(f"data.dataset_dirs=[{DATASET}]", "data.win_len=8", "data.frame_width=64", "data.frame_height=64"),
    *("data.event_regex='minecraft.*'", "data.min_nearby=8", "data.bias=1"),
    *("data.batch_size=4", "data.num_workers=0", "data.prefetch_factor=null"),
    *("trainer.devices=1", "trainer.strategy=auto", "trainer.accelerator=cpu", "log_freq=5"),
    *("optimizer.learning_rate=3e-3", "scheduler.warmup_steps=1"),
    *("callbacks.weights.every_n_train_steps=10", "callbacks.checkpoints.every_n_train_steps=11"),
]


def command(directory, *arguments, expected=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    environment["HF_HOME"] = str(directory / "hub")
    line = [sys.executable, "-m", "mscore", *arguments]
    done = subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr


def losses(directory):
    with open(directory / "runs" / "vpt-finetune" / "latest" / "metrics.csv", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def recipe():
    found = [plugin.components.get("recipe", {}) for plugin in installed_plugins()]
    (path,) = [one["vpt-finetune"] for one in found if "vpt-finetune" in one]
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def test_it_learns_saves_resumes_and_exports(tmp_path):
    command(tmp_path, "run", "vpt-finetune", *SMALL, "init_from=null", "trainer.max_steps=40")
    found = losses(tmp_path)
    assert min(found[-3:]) < 0.9 * found[0]
    latest = tmp_path / "runs" / "vpt-finetune" / "latest"
    command(tmp_path, "run", "--resume", str(latest), "trainer.max_steps=44")
    weights = latest / "checkpoints" / "weight-epoch=0-step=10.ckpt"
    assert weights.exists() or list((latest / "checkpoints").glob("weight-*-step=10.ckpt"))
    command(tmp_path, "export", str(latest), "--to", "exported")
    exported = load_vpt_policy(tmp_path / "exported")
    ours = mscore.load_policy(tmp_path / "exported")
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in exported.state_dict().items())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_goes_on(tmp_path, killed):
    directory = killed("vpt-finetune", *SMALL, "init_from=null", "trainer.max_steps=4000")
    command(tmp_path, "run", "--resume", str(directory), "trainer.max_steps=30")
    command(tmp_path, "export", str(directory), "--to", "exported")
    assert json.loads((tmp_path / "exported" / "mscore.json").read_text())["step"] == 30
    VPTPolicy.from_pretrained(tmp_path / "exported")


def test_it_starts_from_weights_that_people_have(tmp_path):
    command(tmp_path, "run", "vpt-finetune", *SMALL, "init_from=null", "trainer.max_steps=2", "name=first")
    command(tmp_path, "export", "runs/first/latest", "--to", "exported")
    policy = VPTPolicy.from_pretrained(tmp_path / "exported")
    state = {f"mine_policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "lightning.ckpt")
    torch.save(policy.state_dict(), tmp_path / "openai.weights")
    policy.save_pretrained(tmp_path / "hugging-face")
    still = ["trainer.max_steps=1", "optimizer.learning_rate=1e-12"]
    for source in ("lightning.ckpt", "openai.weights", "hugging-face", "exported"):
        command(tmp_path, "run", "vpt-finetune", *SMALL, f"init_from={source}", *still, f"name={source}")
        found = mscore.load_policy(tmp_path / "runs" / source / "latest")
        for name, tensor in policy.net.state_dict().items():
            torch.testing.assert_close(found.net.state_dict()[name], tensor)


def test_weights_that_cannot_be_had_stop_the_run(tmp_path):
    # Offline there is no waiting for a network that is not there.
    said = command(tmp_path, "run", "vpt-finetune", *SMALL, expected=1)
    assert "error: CraftJarvis/MineStudio_VPT.foundation_model_2x is nothing on this machine" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_training_step_at_the_recipes_own_size():
    # The trunk is narrower, as a CPU's memory is; the transformer and the window are the recipe's.
    config = recipe()
    network = {**config["policy"]["policy_kwargs"], "impala_width": 1}
    steps = config["data"]["win_len"]
    policy = VPTPolicy(network, temperature=config["policy"]["temperature"]).train()
    module = MineLightning(policy, {"bc": BehaviorCloneCallback(**config["objectives"]["bc"])})
    torch.manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (1, steps, 128, 128, 3), dtype=torch.uint8),
        "agent_action": {
            "buttons": torch.randint(0, 8641, (1, steps, 1)),
            "camera": torch.randint(0, 121, (1, steps, 1)),
        },
        "mask": torch.ones(1, steps, dtype=torch.bool),
        "first": torch.zeros(1, steps, dtype=torch.bool),
        "timestamp": torch.arange(steps)[None],
        "episode": ["one"],
    }
    with torch.autocast("cpu", torch.bfloat16):
        loss = module._batch_step(batch, 0, "train")["loss"]
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config["trainer"]["gradient_clip_val"])
    assert torch.isfinite(loss)
    assert torch.isfinite(norm)
    before = policy.net.lastlayer.layer.weight.clone()
    torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], 4e-5).step()
    assert not torch.equal(before, policy.net.lastlayer.layer.weight)

"""A real training step of ROCKET-1 and GROOT at the sizes of their recipes, weights and window as they are there."""

from pathlib import Path

import pytest
import torch
import yaml
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_groot import GrootPolicy
from mscore_plugin_kl import KLDivergenceCallback
from mscore_plugin_rocket import RocketPolicy

from mscore import MineLightning
from mscore.plugins import installed_plugins


def recipe(name):
    recipes = [plugin.components.get("recipe", {}) for plugin in installed_plugins()]
    (path,) = [found[name] for found in recipes if name in found]
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def batch(steps, pixels):
    torch.manual_seed(0)
    return {
        "image": torch.randint(0, 256, (1, steps, pixels, pixels, 3), dtype=torch.uint8),
        "segmentation": {
            "obj_mask": torch.randint(0, 2, (1, steps, pixels, pixels), dtype=torch.uint8),
            "obj_id": torch.randint(-1, 7, (1, steps)),
        },
        "agent_action": {
            "buttons": torch.randint(0, 8641, (1, steps, 1)),
            "camera": torch.randint(0, 121, (1, steps, 1)),
        },
        "mask": torch.ones(1, steps, dtype=torch.bool),
        "first": torch.zeros(1, steps, dtype=torch.bool),
        "timestamp": torch.arange(steps)[None],
        "episode": ["one"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy_class", "pixels"), [("rocket-pretrain", RocketPolicy, 96), ("groot-pretrain", GrootPolicy, 224)]
)
def test_a_training_step(name, policy_class, pixels):
    # ROCKET-1's network reads any size; its pictures are smaller here, as a CPU's memory is.
    config = recipe(name)
    arguments = {**config["policy"], "pretrained": False}
    assert arguments.pop("use") in name
    if "timesteps" in arguments:
        arguments["timesteps"] = config["data"]["win_len"]
    policy = policy_class(**arguments).train()
    objectives = {"bc": BehaviorCloneCallback(**config["objectives"]["bc"])}
    if "kl" in config["objectives"]:
        objectives["kl"] = KLDivergenceCallback(**config["objectives"]["kl"])
    module = MineLightning(policy, objectives, learning_rate=config["optimizer"]["learning_rate"])
    assert policy.hiddim == 1024
    window = batch(config["data"]["win_len"], pixels)
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], 4e-5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module._batch_step(window, 0, "train")["loss"]
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config["trainer"]["gradient_clip_val"])
    assert torch.isfinite(loss)
    assert torch.isfinite(norm)
    before = policy.updim.weight.clone()
    optimizer.step()
    assert not torch.equal(before, policy.updim.weight)

"""Weights in the layouts that people have, in and out, and never from the network."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from gymnasium import spaces
from mscore_plugin_rocket import RocketPolicy, load_rocket_policy
from safetensors.torch import load_file, save_file

from mscore import MscoreError


@pytest.fixture(autouse=True)
def no_weights_are_fetched(monkeypatch):
    create_model = timm.create_model

    def without_network(*args, **kwargs):
        assert not kwargs["pretrained"]
        return create_model(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", without_network)


@pytest.fixture
def arguments(golden):
    """Constructor arguments as MineStudio's config has them."""
    return {"backbone": f"timm/{golden.meta['backbone']}", **golden.meta["cfg"]}


def minecraft(golden):
    """Weights for Minecraft's whole action space, under MineStudio's names."""
    state = golden.state_dict()
    for name, count in (("buttons", 8641), ("camera", 121)):
        torch.manual_seed(count)
        state[f"pi_head.{name}.linear_layer.weight"] = torch.randn(count, 64)
        state[f"pi_head.{name}.linear_layer.bias"] = torch.randn(count)
    return state


@torch.no_grad()
def same(policy, state, golden):
    assert not policy.training
    assert policy.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in policy.state_dict().items())
    latents, _ = policy(golden.input(0))
    torch.testing.assert_close(latents["vpred"], golden["chunk0/vpred"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["weight-epoch=0-step=2000.ckpt", "weight-epoch=0-step=2000-EMA.ckpt"])
def test_lightning_checkpoint(golden, arguments, tmp_path, name):
    state = minecraft(golden)
    content = {
        "epoch": 0,
        "global_step": 2000,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"mine_policy.{key}": value for key, value in state.items()},
        "hparams_name": "hyperparameters",
        "hyper_parameters": {"batch_size": 8, "model": arguments},
    }
    torch.save(content, tmp_path / name)
    same(load_rocket_policy(tmp_path / name), state, golden)


def test_hugging_face_directory(golden, arguments, tmp_path):
    state = minecraft(golden)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**arguments, "action_space": None, "nucleus_prob": 0.85}))
    same(load_rocket_policy(tmp_path), state, golden)
    same(RocketPolicy.from_pretrained(str(tmp_path)), state, golden)


def test_a_directory_that_is_written_is_as_minestudio_has_it(golden, tmp_path):
    policy = golden.policy()
    policy.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    known = {"backbone", "hiddim", "num_heads", "num_layers", "timesteps", "mem_len", "action_space", "nucleus_prob"}
    assert config.keys() == known
    assert config["backbone"] == "test_vit.r160_in1k"
    written = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(written[name], value) for name, value in golden.state_dict().items())
    assert written.keys() == golden.state_dict().keys()
    same(RocketPolicy.from_pretrained(tmp_path), golden.state_dict(), golden)


def test_an_action_space_of_ones_own_comes_back(small, tmp_path):
    space = spaces.Dict({"jump": spaces.Discrete(2), "move": spaces.Box(-1.0, 1.0, (2,))})
    policy = small(action_space=space)
    policy.save_pretrained(tmp_path)
    again = load_rocket_policy(tmp_path)
    assert again.action_space == space
    assert all(torch.equal(value, policy.state_dict()[name]) for name, value in again.state_dict().items())


def test_tensors_that_do_not_fit_are_named(golden, tmp_path):
    policy = golden.policy()
    policy.save_pretrained(tmp_path)
    state = golden.state_dict()
    del state["final_ln.weight"]
    state["pi_head.extra"] = torch.zeros(1)
    state["updim.weight"] = torch.zeros(64, 32, 1, 1)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(MscoreError) as caught:
        load_rocket_policy(tmp_path)
    message = str(caught.value)
    assert all(part in message for part in ("final_ln.weight", "pi_head.extra", "updim.weight"))
    assert "(64, 32, 1, 1)" in message.replace("[", "(").replace("]", ")")
    assert "(64, 64, 1, 1)" in message.replace("[", "(").replace("]", ")")


def test_starting_weights_of_a_run(golden, tmp_path, small):
    golden.policy().save_pretrained(tmp_path)
    policy = small("test_vit.r160_in1k", **golden.meta["cfg"])
    policy.load_weights(str(tmp_path))
    same(policy, golden.state_dict(), golden)


def test_nothing_there(tmp_path):
    with pytest.raises(MscoreError, match="nowhere"):
        load_rocket_policy(tmp_path / "nowhere.ckpt")


def test_importing_the_package_is_cheap():
    code = "import sys, mscore_plugin_rocket; print([name for name in ('torch', 'timm') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

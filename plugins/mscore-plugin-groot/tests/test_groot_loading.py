"""Weights in the layouts that people have, in and out, and never from the network."""

import json

import pytest
import timm
import torch
from gymnasium import spaces
from mscore_plugin_groot import GrootPolicy, load_groot_policy
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
    same(load_groot_policy(tmp_path / name), state, golden)


def test_hugging_face_directory(golden, arguments, tmp_path):
    state = minecraft(golden)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**arguments, "action_space": None}))
    same(load_groot_policy(tmp_path), state, golden)
    same(GrootPolicy.from_pretrained(str(tmp_path)), state, golden)


def test_a_directory_that_is_written_is_as_minestudio_has_it(golden, tmp_path):
    golden.policy().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    described = {name: value for name, value in config.items() if name != "action_space"}
    assert described == {"backbone": golden.meta["backbone"], **golden.meta["cfg"]}
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == golden.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in golden.state_dict().items())
    same(GrootPolicy.from_pretrained(tmp_path), golden.state_dict(), golden)


def test_an_action_space_of_ones_own_comes_back(small, tmp_path):
    space = spaces.Dict({"jump": spaces.Discrete(2), "move": spaces.Box(-1.0, 1.0, (2,))})
    small(action_space=space).save_pretrained(tmp_path)
    assert load_groot_policy(tmp_path).action_space == space


def test_tensors_that_do_not_fit_are_named(golden, tmp_path):
    golden.policy().save_pretrained(tmp_path)
    state = golden.state_dict()
    del state["decoder.final_ln.weight"]
    state["fuser.extra"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(MscoreError) as caught:
        load_groot_policy(tmp_path)
    assert all(name in str(caught.value) for name in ("decoder.final_ln.weight", "fuser.extra"))

"""Weights in the layouts that people have, in and out."""

import json
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from gymnasium import spaces
from huggingface_hub.errors import LocalEntryNotFoundError
from mscore_plugin_vpt import VPTPolicy, load_vpt_policy, read_saved_policy
from safetensors.torch import load_file, save_file

from mscore import MscoreError
from mscore.heads.spaces import describe_space

SPACES = {
    "discrete": spaces.Discrete(5),
    "shifted": spaces.Discrete(5, start=-2),
    "dict": spaces.Dict({"jump": spaces.Discrete(2), "move": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
    "nested": spaces.Dict({"keys": spaces.MultiBinary(3), "look": spaces.Dict({"x": spaces.MultiDiscrete([3, 4])})}),
    "other minecraft": spaces.Dict({"buttons": spaces.MultiDiscrete([33]), "camera": spaces.MultiDiscrete([121])}),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


@pytest.fixture
def record(golden):
    return golden("ckpt/vpt_expected.npz")


@pytest.fixture
def kept(checkpoints):
    """The tiny policy's tensors."""
    return load_file(checkpoints / "hf_vpt_tiny" / "model.safetensors")


@pytest.fixture
def arguments(checkpoints):
    """Its constructor arguments, as MineStudio's config has them."""
    return json.loads((checkpoints / "hf_vpt_tiny" / "config.json").read_text())


@torch.no_grad()
def same(policy, record):
    assert not policy.training
    latents, _ = policy({"image": record["vpt/image"]}, None)
    torch.testing.assert_close(latents["pi_logits"]["camera"], record["vpt/camera"], atol=2e-5, rtol=0)
    torch.testing.assert_close(latents["vpred"], record["vpt/vpred"], atol=2e-5, rtol=0)
    assert torch.equal(latents["pi_logits"]["buttons"].argmax(-1), record["vpt/buttons_top"])


def lightning_checkpoint(state, model):
    return {
        "epoch": 0,
        "global_step": 2000,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"mine_policy.{name}": tensor for name, tensor in state.items()},
        "loops": {},
        "hparams_name": "hyperparameters",
        "hyper_parameters": {"batch_size": 8, "model": model},
    }


def test_openais_two_files(checkpoints, record):
    policy = load_vpt_policy(checkpoints / "openai_tiny.model", checkpoints / "openai_tiny.weights")
    same(policy, record)
    assert policy.temperature == 2.0


def test_a_hugging_face_directory(checkpoints, record):
    same(VPTPolicy.from_pretrained(checkpoints / "hf_vpt_tiny"), record)
    same(VPTPolicy.from_pretrained(str(checkpoints / "hf_vpt_tiny")), record)
    same(load_vpt_policy(checkpoints / "hf_vpt_tiny"), record)


@pytest.mark.parametrize("name", ["weight-epoch=0-step=2000.ckpt", "weight-epoch=0-step=2000-EMA.ckpt"])
def test_a_lightning_checkpoint(checkpoints, record, kept, arguments, tmp_path, name):
    path = tmp_path / name
    torch.save(lightning_checkpoint(kept, arguments), path)
    same(VPTPolicy.from_pretrained(path), record)
    # MineStudio's ignores weights that come without a model.
    same(load_vpt_policy(weights_path=path), record)
    same(load_vpt_policy(checkpoints / "openai_tiny.model", path), record)


def test_a_checkpoint_whose_config_says_nothing_of_the_policy(checkpoints, record, kept, tmp_path):
    path = tmp_path / "weights.ckpt"
    torch.save(lightning_checkpoint(kept, {})["state_dict"], tmp_path / "plain.weights")
    torch.save({"state_dict": lightning_checkpoint(kept, {})["state_dict"]}, path)
    same(load_vpt_policy(checkpoints / "openai_tiny.model", path), record)
    same(load_vpt_policy(checkpoints / "hf_vpt_tiny", path), record)
    with pytest.raises(MscoreError, match=r"weights\.ckpt holds weights and does not say how the policy is built"):
        load_vpt_policy(weights_path=path)


def test_what_else_was_trained_beside_the_policy_is_left_out(checkpoints, record, kept, arguments, tmp_path):
    content = lightning_checkpoint(kept, arguments)
    content["state_dict"]["objectives.kl.scale"] = torch.zeros(1)
    torch.save(content, tmp_path / "weights.ckpt")
    same(load_vpt_policy(tmp_path / "weights.ckpt"), record)


def test_weights_alone(checkpoints, record, arguments):
    weights = checkpoints / "openai_tiny.weights"
    same(VPTPolicy.from_pretrained(weights, **arguments), record)
    with pytest.raises(MscoreError, match=r"openai_tiny\.weights holds weights and does not say how"):
        VPTPolicy.from_pretrained(weights)
    policy = load_vpt_policy(checkpoints / "openai_tiny.model")
    assert policy.temperature == 2.0  # how it is built, with random weights
    policy.load_weights(str(checkpoints / "hf_vpt_tiny" / "model.safetensors"))
    same(policy, record)


def test_an_id_on_the_hub(checkpoints, record, monkeypatch):
    asked = []

    def download(repository, name, revision=None, cache_dir=None):
        asked.append((repository, name, revision))
        return str(checkpoints / "hf_vpt_tiny" / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    same(VPTPolicy.from_pretrained("CraftJarvis/MineStudio_VPT.foundation_model_2x", revision="main"), record)
    assert {repository for repository, *_ in asked} == {"CraftJarvis/MineStudio_VPT.foundation_model_2x"}
    assert {name for _, name, _ in asked} == {"config.json", "model.safetensors"}
    same(load_vpt_policy(), record)
    assert asked[-1][0] == "CraftJarvis/MineStudio_VPT.rl_for_shoot_animals_2x"


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(MscoreError, match=r"someone/vpt is nothing on this machine.*cannot be reached"):
        VPTPolicy.from_pretrained("someone/vpt")


@pytest.mark.parametrize("name", ["nowhere.ckpt", "weights/nowhere.ckpt", "/nowhere/at/all", "nowhere"])
def test_nothing_there(name):
    with pytest.raises(MscoreError, match=r"there is no policy at .*nowhere"):
        load_vpt_policy(weights_path=name)


# --- what does not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["openai", "hugging face", "lightning"])
def test_every_tensor_that_does_not_fit_is_named(checkpoints, kept, arguments, tmp_path, layout):
    # MineStudio's drops those that it does not know.
    kept["net.final_ln.extra"] = torch.zeros(7)
    kept["pi_head.camera.linear_layer.weight"] = torch.zeros(121, 15)
    del kept["value_head.linear.bias"], kept["net.lastlayer.layer.weight"]
    expected = [
        "net.final_ln.extra is not in the policy, and is (7)",
        "pi_head.camera.linear_layer.weight is (121, 15), the policy's is (121, 16)",
        "value_head.linear.bias is missing, the policy's is (1)",
        "net.lastlayer.layer.weight is missing, the policy's is (16, 16)",
    ]
    with pytest.raises(MscoreError) as caught:
        load(checkpoints, layout, kept, arguments, tmp_path)
    assert [text for text in expected if text not in str(caught.value)] == []
    with pytest.raises(MscoreError) as caught:
        load(checkpoints, layout, kept, arguments, tmp_path, strict=False)
    assert expected[1] in str(caught.value)  # a shape that differs is never left out
    assert expected[0] not in str(caught.value)
    kept["pi_head.camera.linear_layer.weight"] = torch.zeros(121, 16)
    with pytest.warns(UserWarning, match=r"final_ln\.extra") as warned:
        policy = load(checkpoints, layout, kept, arguments, tmp_path, strict=False)
    assert "value_head.linear.bias is missing" in str(warned[0].message)
    assert policy.pi_head.camera.linear_layer.weight.abs().max() == 0


def load(checkpoints, layout, state, arguments, folder, **options):
    if layout == "openai":
        torch.save(state, folder / "some.weights")
        return load_vpt_policy(checkpoints / "openai_tiny.model", folder / "some.weights", **options)
    if layout == "lightning":
        torch.save(lightning_checkpoint(state, arguments), folder / "some.ckpt")
        return load_vpt_policy(folder / "some.ckpt", **options)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(arguments))
    return VPTPolicy.from_pretrained(folder, **options)


def test_a_policy_that_is_refused_keeps_its_weights(small, tmp_path):
    policy = small()
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items() if name != "net.final_ln.bias"}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(MscoreError, match=r"net\.final_ln\.bias is missing"):
        policy.load_weights(str(tmp_path / "model.safetensors"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())


def test_arguments_that_do_not_fit(checkpoints, kept, arguments, tmp_path):
    arguments["hiddim"] = 16
    with pytest.raises(MscoreError, match=r"do not fit VPTPolicy.*hiddim"):
        load(checkpoints, "hugging face", kept, arguments, tmp_path)
    with pytest.raises(MscoreError, match=r"pointwise_rato.*pointwise_ratio"):
        VPTPolicy({**arguments["policy_kwargs"], "pointwise_rato": 4})


def test_directories_and_files_that_are_damaged(checkpoints, tmp_path):
    with pytest.raises(MscoreError, match=r"has no config\.json"):
        VPTPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(MscoreError, match=r"has no model\.safetensors"):
        VPTPolicy.from_pretrained(tmp_path)
    whole = (checkpoints / "hf_vpt_tiny" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole)
    with pytest.raises(MscoreError, match=r"config\.json holds a list"):
        VPTPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MscoreError, match=r"config\.json cannot be read"):
        VPTPolicy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(MscoreError, match=r"model\.safetensors cannot be read"):
        VPTPolicy.from_pretrained(tmp_path)
    weights = (checkpoints / "openai_tiny.weights").read_bytes()
    (tmp_path / "cut.weights").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(MscoreError, match=r"cut\.weights"):
        read_saved_policy(tmp_path / "cut.weights")
    torch.save({"step": 3}, tmp_path / "odd.weights")
    with pytest.raises(MscoreError, match=r"odd\.weights holds more than tensors: step"):
        read_saved_policy(tmp_path / "odd.weights")


def test_a_checkpoint_that_would_run_code(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": subprocess.Popen}, tmp_path / "evil.ckpt")
    with pytest.raises(MscoreError, match="could run code"):
        read_saved_policy(tmp_path / "evil.ckpt")


# --- what is written --------------------------------------------------------------------------------


def test_a_directory_that_is_written_is_as_minestudio_has_it(checkpoints, kept, arguments, record, tmp_path):
    VPTPolicy.from_pretrained(checkpoints / "hf_vpt_tiny").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {**arguments, "nucleus_prob": None}
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == kept.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in kept.items())
    same(VPTPolicy.from_pretrained(tmp_path), record)


@pytest.mark.parametrize("name", SPACES)
def test_an_action_space_of_ones_own_comes_back(small, window, tmp_path, name):
    # MineStudio writes null, and cannot read it again.
    policy = small(action_space=SPACES[name], nucleus_prob=0.85)
    policy.save_pretrained(tmp_path)
    again = load_vpt_policy(tmp_path)
    assert again.action_space == SPACES[name]
    assert describe_space(again.action_space) == describe_space(SPACES[name])
    assert (again.temperature, again.nucleus_prob) == (2.0, 0.85)
    for one, other in zip(policy.state_dict().items(), again.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
    seen = window()
    torch.manual_seed(0)
    action, _ = policy.get_action(seen)
    torch.manual_seed(0)
    torch.testing.assert_close(again.get_action(seen)[0], action)


def test_importing_the_package_is_cheap():
    code = "import sys, mscore_plugin_vpt; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

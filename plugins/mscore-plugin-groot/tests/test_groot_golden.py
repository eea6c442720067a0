"""MineStudio's GROOT and ours, with the same weights and inputs."""

import pytest
import torch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_kl import KLDivergenceCallback

CLOSE = {"atol": 2e-5, "rtol": 0.0}


@torch.no_grad()
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_windows(golden, chunk):
    latents, state = golden.policy()(golden.input(chunk), None if chunk == 0 else golden.state(chunk - 1))
    for name, logits in latents["pi_logits"].items():
        torch.testing.assert_close(logits, golden[f"chunk{chunk}/pi_logits/{name}"], **CLOSE)
    torch.testing.assert_close(latents["vpred"], golden[f"chunk{chunk}/vpred"], **CLOSE)
    for which in ("posterior", "prior"):
        for name, value in latents[f"{which}_dist"].items():
            torch.testing.assert_close(value, golden[f"chunk{chunk}/{which}/{name}"], **CLOSE)
    for mine, theirs in zip(state, golden.state(chunk), strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_losses(golden, chunk):
    policy, batch = golden.policy(), {"agent_action": golden.action(chunk)}
    latents, _ = policy(golden.input(chunk), None if chunk == 0 else golden.state(chunk - 1))
    cloning = BehaviorCloneCallback()(batch, 0, "train", latents, policy)
    for name in ("loss", "camera_loss", "button_loss", "entropy"):
        torch.testing.assert_close(cloning[name], golden[f"chunk{chunk}/bc/{name}"], atol=0, rtol=1e-5)
    divergence = KLDivergenceCallback(weight=0.01)(batch, 0, "train", latents, policy)
    for name in ("loss", "kl_div"):
        torch.testing.assert_close(divergence[name], golden[f"chunk{chunk}/kl_w0.01/{name}"], atol=0, rtol=1e-4)


def test_gradients(golden):
    policy, batch = golden.policy(), {"agent_action": golden.action(1)}
    latents, _ = policy({"image": golden["chunk1/image"]}, golden.state(0))
    loss = BehaviorCloneCallback()(batch, 0, "train", latents, policy)["loss"]
    (loss + KLDivergenceCallback(weight=0.01)(batch, 0, "train", latents, policy)["loss"]).backward()
    for name, parameter in policy.named_parameters():
        expected = golden[f"grad/norm/{name}"].item()
        if expected < 0:
            assert parameter.grad is None, name
        else:
            norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
            assert norm == pytest.approx(expected, rel=1e-4, abs=1e-5), name


@torch.no_grad()
def test_goals_are_drawn_in_training(golden):
    space = golden.policy().video_encoder.encode_dist.train()
    torch.manual_seed(99)
    for name, value in space(golden["latent_train/x"]).items():
        torch.testing.assert_close(value, golden[f"latent_train/out_seed99/{name}"], **CLOSE)


@torch.no_grad()
def test_reference_video(golden, monkeypatch):
    policy = golden.policy()
    monkeypatch.setattr(
        "mscore_plugin_groot.policy.read_reference", lambda path, frames, *size: golden["ref/frames"][:frames]
    )
    condition = policy.encode_video(__file__)
    for which in ("posterior_dist", "prior_dist"):
        for name, value in condition[which].items():
            torch.testing.assert_close(value, golden[f"ref/condition/{which}/{name}"], **CLOSE)
    state = None
    for step in range(3):
        frame = {"image": golden["chunk0/image"][:1, step : step + 1], "ref_video_path": [[__file__]]}
        latents, state = policy(frame, state)
        for name, logits in latents["pi_logits"].items():
            torch.testing.assert_close(logits, golden[f"ref/step{step}/pi_logits/{name}"], **CLOSE)
        torch.testing.assert_close(latents["vpred"], golden[f"ref/step{step}/vpred"], **CLOSE)

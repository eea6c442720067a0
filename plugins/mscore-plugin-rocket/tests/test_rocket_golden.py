"""MineStudio's ROCKET-1 and ours, with the same weights and inputs."""

import pytest
import torch
from mscore_plugin_bc import BehaviorCloneCallback

CLOSE = {"atol": 2e-5, "rtol": 0.0}


@torch.no_grad()
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_windows(golden, chunk):
    policy = golden.policy()
    before = None if chunk == 0 else golden.state(chunk - 1)
    latents, state = policy(golden.input(chunk), before)
    for name, logits in latents["pi_logits"].items():
        torch.testing.assert_close(logits, golden[f"chunk{chunk}/pi_logits/{name}"], **CLOSE)
    torch.testing.assert_close(latents["vpred"], golden[f"chunk{chunk}/vpred"], **CLOSE)
    for mine, theirs in zip(state, golden.state(chunk), strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@torch.no_grad()
def test_parts(golden):
    policy, input = golden.policy(), golden.input(0)
    tokens = policy.tokens(input, input["segment"]["obj_mask"])
    features = golden["chunk0/feat_last"]
    expected = policy.updim(features).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected, **CLOSE)
    torch.testing.assert_close(policy.pooling.pool(tokens), golden["chunk0/pooled"], **CLOSE)


@torch.no_grad()
def test_step_by_step(golden):
    policy, input, state = golden.policy(), golden.input(1), golden.state(0)
    for step in range(4):
        cut = slice(step, step + 1)
        frame = {
            "image": input["image"][:, cut],
            "first": input["first"][:, cut],
            "segment": {name: value[:, cut] for name, value in input["segment"].items()},
        }
        latents, state = policy(frame, state)
        for name, logits in latents["pi_logits"].items():
            torch.testing.assert_close(logits, golden[f"chunk1/pi_logits/{name}"][:, cut], **CLOSE)


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_actions(golden, chunk):
    policy = golden.policy()
    logits = {name: golden[f"chunk{chunk}/pi_logits/{name}"] for name in ("buttons", "camera")}
    torch.manual_seed(11)
    sampled, best = policy.pi_head.sample(logits), policy.pi_head.sample(logits, deterministic=True)
    for name in logits:
        assert torch.equal(sampled[name], golden[f"chunk{chunk}/sample_seed11/{name}"])
        assert torch.equal(best[name], golden[f"chunk{chunk}/deterministic/{name}"])


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_cloning_loss(golden, chunk):
    policy = golden.policy()
    latents, _ = policy(golden.input(chunk), None if chunk == 0 else golden.state(chunk - 1))
    result = BehaviorCloneCallback(weight=0.01)({"agent_action": golden.action(chunk)}, 0, "train", latents, policy)
    for name in ("loss", "camera_loss", "button_loss", "entropy"):
        torch.testing.assert_close(result[name], golden[f"chunk{chunk}/bc/{name}"], atol=0, rtol=1e-5)


def test_gradients(golden):
    policy = golden.policy()
    latents, _ = policy(golden.input(2), golden.state(1))
    BehaviorCloneCallback()({"agent_action": golden.action(2)}, 0, "train", latents, policy)["loss"].backward()
    for name, parameter in policy.named_parameters():
        expected = golden[f"grad/norm/{name}"].item()
        if expected < 0:
            assert parameter.grad is None, name
        else:
            norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
            assert norm == pytest.approx(expected, rel=1e-4, abs=1e-5), name

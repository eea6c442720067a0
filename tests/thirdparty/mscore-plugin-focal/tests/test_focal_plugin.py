"""The focal objective, the tiny policy and the step counter."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_focal.callback import StepCounter
from mscore_plugin_focal.objective import FocalLoss
from mscore_plugin_focal.policy import TinyMLP
from torch.utils.data import DataLoader

from mscore import MineLightning, MscoreError
from mscore.components import find

OBSERVATIONS = spaces.Box(-1.0, 1.0, (4,), np.float32)


@pytest.fixture
def policy():
    return TinyMLP(8, observation_space=OBSERVATIONS, action_space=spaces.Discrete(2))


def evaluate(objective, policy, probabilities, mask=None):
    p = torch.tensor(probabilities)
    batch = {"agent_action": torch.zeros(p.shape, dtype=torch.long)}
    if mask is not None:
        batch["mask"] = torch.tensor(mask)
    return objective(batch, 0, "train", {"pi_logits": torch.stack([p, 1 - p], -1).log()}, policy)


def test_by_hand(policy):
    result = evaluate(FocalLoss(gamma=2.0, weight=0.5), policy, [[0.9, 0.5]])
    expected = 0.5 * (-0.01 * math.log(0.9) - 0.25 * math.log(0.5)) / 2
    assert result["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert result["confidence"].item() == pytest.approx(0.7)


def test_without_gamma_it_is_cloning(policy):
    assert evaluate(FocalLoss(gamma=0.0), policy, [[0.9]])["loss"].item() == pytest.approx(-math.log(0.9))


def test_the_mask(policy):
    masked = evaluate(FocalLoss(), policy, [[0.9, 0.1]], [[True, False]])
    assert masked["loss"].item() == pytest.approx(evaluate(FocalLoss(), policy, [[0.9]])["loss"].item())
    assert evaluate(FocalLoss(), policy, [[0.9, 0.1]], [[False, False]])["loss"].item() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_is_finite_where_the_policy_is_certain(policy, gamma):
    logits = torch.tensor([[[0.0, -100.0]]], requires_grad=True)
    batch = {"agent_action": torch.zeros(1, 1, dtype=torch.long)}
    FocalLoss(gamma)(batch, 0, "train", {"pi_logits": logits.log_softmax(-1)}, policy)["loss"].backward()
    assert torch.isfinite(logits.grad).all()


def test_a_policy_for_another_observation():
    with pytest.raises(MscoreError, match=r"tiny-mlp reads a Box, not Discrete\(3\)"):
        TinyMLP(observation_space=spaces.Discrete(3), action_space=spaces.Discrete(2))


def test_they_are_found_by_name():
    assert find("objective", "focal").load() is FocalLoss
    assert find("policy", "focal/tiny-mlp").load() is TinyMLP
    assert find("callback", "mscore-plugin-focal/step-counter").load() is StepCounter


def test_they_train_together(policy, capsys):
    torch.manual_seed(0)
    image = torch.randn(64, 4, 4)
    windows = [{"image": x, "agent_action": (x[..., 0] > 0).long()} for x in image]
    counter = StepCounter(every_n_steps=16)
    module = MineLightning(policy, {"focal": FocalLoss()}, learning_rate=3e-2, warmup_steps=1)
    trainer = pl.Trainer(
        max_epochs=4, accelerator="cpu", callbacks=[counter], accumulate_grad_batches=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(windows, batch_size=4))
    assert counter.steps == trainer.global_step == 32
    assert "16 optimizer steps\n32 optimizer steps" in capsys.readouterr().out
    action, _ = policy.get_action({"image": image}, deterministic=True)
    assert (action == (image[..., 0] > 0)).float().mean() > 0.9

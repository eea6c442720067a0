"""The behaviour-cloning objective: MineStudio's numbers, hand-computed ones, masks and dtypes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_bc import BehaviorCloneCallback

from mscore import MinePolicy, make_action_head, minecraft_action_space

GOLDEN = Path(__file__).parent / "golden" / "bc_minecraft.npz"


class Latent(MinePolicy):
    """A policy whose latents are its input: all that an objective needs to see of one."""

    def __init__(self, action_space, hiddim=8):
        super().__init__(hiddim, action_space)

    def initial_state(self, batch_size=None):
        return []

    def forward(self, input, state_in=None):
        return {"pi_logits": self.pi_head(input["image"]), "vpred": self.value_head(input["image"])}, state_in


class HeadOnly:
    """What the objective reads of a policy, with a head whose weights do not matter."""

    def __init__(self, action_space):
        self.action_space = action_space
        self.pi_head = make_action_head(action_space, 2)


def run(objective, action, logits, policy, mask=None):
    batch = {"agent_action": action} if mask is None else {"agent_action": action, "mask": mask}
    return objective(batch, 0, "train", {"pi_logits": logits}, policy)


def log(rows):
    return torch.tensor(rows).log()


SPACES = {
    "discrete": spaces.Discrete(5),
    "discrete-start": spaces.Discrete(4, start=3),
    "multidiscrete": spaces.MultiDiscrete([3, 5, 2]),
    "multidiscrete-2d": spaces.MultiDiscrete(np.array([[3, 2], [4, 5]])),
    "multibinary": spaces.MultiBinary(4),
    "box": spaces.Box(-1.0, 1.0, (3,)),
    "box-scalar": spaces.Box(-1.0, 1.0, ()),
    "dict": spaces.Dict(
        {
            "forward": spaces.Discrete(2),
            "hotbar.1": spaces.MultiBinary(2),
            "inner": spaces.Dict({"aim": spaces.Box(-1.0, 1.0, (2,)), "mode": spaces.Discrete(3)}),
        }
    ),
    "countable-dict": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.MultiDiscrete([2, 3])})}),
    "minecraft": minecraft_action_space(),
}


def draw(policy, batch=3, time=4):
    torch.manual_seed(0)
    latent = torch.randn(batch, time, policy.hiddim)
    logits = policy.pi_head(latent)
    with torch.no_grad():
        return logits, policy.pi_head.sample(logits)


@pytest.fixture(params=SPACES)
def policy(request):
    torch.manual_seed(1)
    return Latent(SPACES[request.param])


@pytest.mark.parametrize("chunk", ["chunk0", "chunk2"])
@pytest.mark.parametrize("weight", [1.0, 0.01])
@pytest.mark.parametrize("masked", ["mask", "nomask"])
def test_minecraft_numbers_are_minestudios(chunk, weight, masked):
    golden = np.load(GOLDEN)
    logits, action = (
        {key: torch.from_numpy(golden[f"{chunk}/{what}/{key}"]) for key in ("buttons", "camera")}
        for what in ("pi_logits", "action")
    )
    mask = torch.from_numpy(golden["bc/mask"]) if masked == "mask" else None
    result = run(BehaviorCloneCallback(weight=weight), action, logits, HeadOnly(minecraft_action_space()), mask)
    expected = {key: float(golden[f"bc/w{weight}/{chunk}/{masked}/{key}"]) for key in result}
    assert set(expected) == {"loss", "camera_loss", "button_loss", "entropy", "bc_weight"}
    assert {key: float(value) for key, value in result.items()} == pytest.approx(expected, rel=1e-6, abs=2e-5)


def test_null_camera_frames_leave_the_camera_term_alone():
    policy = HeadOnly(minecraft_action_space())
    logits = {"buttons": torch.zeros(1, 2, 1, 8641), "camera": torch.zeros(1, 2, 1, 121)}
    logits = {key: value.log_softmax(-1) for key, value in logits.items()}
    action = {"buttons": torch.zeros(1, 2, 1, dtype=torch.long), "camera": torch.tensor([[[60], [59]]])}
    result = run(BehaviorCloneCallback(), action, logits, policy)
    assert float(result["camera_loss"]) == pytest.approx(math.log(121), rel=1e-6)
    assert float(result["button_loss"]) == pytest.approx(2 * math.log(8641), rel=1e-6)
    assert float(result["entropy"]) == pytest.approx(math.log(121) + 2 * math.log(8641), rel=1e-5)


def test_buttons_and_a_continuous_camera_are_an_ordinary_dict_space():
    policy = Latent(spaces.Dict({"buttons": spaces.MultiBinary(20), "camera": spaces.Box(-180.0, 180.0, (2,))}))
    logits, action = draw(policy)
    assert set(run(BehaviorCloneCallback(), action, logits, policy)) == {
        "loss", "buttons_loss", "camera_loss", "entropy", "bc_weight",
    }  # fmt: skip


class TestByHand:
    """Two rows of three frames over three actions; the numbers below are added up by hand."""

    logits = log(
        [
            [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
            [[0.4, 0.3, 0.3], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]],
        ]
    )
    action = torch.tensor([[0, 1, 0], [1, 0, 2]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    policy = HeadOnly(spaces.Discrete(3))

    def test_sum_adds_over_time_and_averages_over_rows(self):
        result = run(BehaviorCloneCallback(weight=0.5), self.action, self.logits, self.policy)
        total = -sum(math.log(p) for p in (0.5, 0.8, 0.2, 0.3, 0.05, 0.4))
        assert float(result["loss"]) == pytest.approx(0.5 * total / 2, rel=1e-5)
        assert float(result["accuracy"]) == pytest.approx(3 / 6)
        assert result["bc_weight"] == 0.5

    def test_mean_averages_over_frames(self):
        result = run(BehaviorCloneCallback(reduction="mean"), self.action, self.logits, self.policy)
        total = -sum(math.log(p) for p in (0.5, 0.8, 0.2, 0.3, 0.05, 0.4))
        assert float(result["loss"]) == pytest.approx(total / 6, rel=1e-5)

    @pytest.mark.parametrize(("reduction", "count"), [("sum", 2), ("mean", 3)])
    def test_masked_frames_count_nowhere(self, reduction, count):
        result = run(BehaviorCloneCallback(reduction=reduction), self.action, self.logits, self.policy, self.mask)
        assert float(result["loss"]) == pytest.approx(-math.log(0.5 * 0.8 * 0.3) / count, rel=1e-5)
        assert float(result["accuracy"]) == pytest.approx(2 / 3)
        entropies = [0.5 * math.log(2) + 0.5 * math.log(4), -0.8 * math.log(0.8) - 0.2 * math.log(0.1)]
        entropies.append(-0.4 * math.log(0.4) - 0.6 * math.log(0.3))
        assert float(result["entropy"]) == pytest.approx(sum(entropies) / count, rel=1e-5)

    def test_rows_without_a_valid_frame_do_not_count(self):
        mask = torch.tensor([[True, True, False], [False, False, False]])
        result = run(BehaviorCloneCallback(), self.action, self.logits, self.policy, mask)
        assert float(result["loss"]) == pytest.approx(-math.log(0.5 * 0.8), rel=1e-5)

    def test_what_stands_in_masked_frames_does_not_matter(self):
        logits = self.logits.clone()
        logits[0, 2] = torch.tensor([-math.inf, 0.0, -math.inf])
        logits[1, 1] = math.nan
        wild, tame = (
            run(BehaviorCloneCallback(), self.action, each, self.policy, self.mask) for each in (logits, self.logits)
        )
        assert {k: float(v) for k, v in wild.items()} == {k: float(v) for k, v in tame.items()}


def test_every_space_gives_finite_terms_and_a_gradient(policy):
    logits, action = draw(policy)
    result = run(BehaviorCloneCallback(), action, logits, policy)
    assert all(math.isfinite(torch.as_tensor(value).item()) for value in result.values())
    assert [key for key, value in result.items() if isinstance(value, torch.Tensor) and value.requires_grad] == ["loss"]
    assert all(value.shape == () for value in result.values() if isinstance(value, torch.Tensor))
    result["loss"].backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in policy.pi_head.named_parameters() if "bias" in n
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_batch_without_a_valid_frame_gives_zero_with_a_graph(policy, reduction):
    logits, action = draw(policy)
    result = run(
        BehaviorCloneCallback(reduction=reduction),
        action,
        logits,
        policy,
        torch.zeros(3, 4, dtype=torch.bool),
    )
    assert all(value == 0 for key, value in result.items() if key != "bc_weight")
    result["loss"].backward()
    gradients = [p.grad for p in policy.pi_head.parameters()]
    assert all(g is not None and (g == 0).all() for g in gradients)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_full_mask_is_no_mask(policy, reduction):
    logits, action = draw(policy)
    objective = BehaviorCloneCallback(reduction=reduction)
    full = run(objective, action, logits, policy, torch.ones(3, 4, dtype=torch.bool))
    none = run(objective, action, logits, policy)
    assert {k: float(v) for k, v in full.items()} == pytest.approx({k: float(v) for k, v in none.items()}, rel=1e-5)


def test_the_mean_does_not_grow_with_the_window(policy):
    logits, action = draw(policy)
    twice = [_repeat(tree) for tree in (action, logits)]
    mean, total = BehaviorCloneCallback(reduction="mean"), BehaviorCloneCallback()
    assert float(run(mean, *twice, policy)["loss"]) == pytest.approx(
        float(run(mean, action, logits, policy)["loss"]), rel=1e-4
    )
    assert float(run(total, *twice, policy)["loss"]) == pytest.approx(
        2 * float(run(total, action, logits, policy)["loss"]), rel=1e-4
    )


def _repeat(tree):
    if isinstance(tree, dict):
        return {key: _repeat(value) for key, value in tree.items()}
    return torch.cat([tree, tree], dim=1)


def test_the_gradient_is_that_of_the_weighted_likelihood(policy):
    logits, action = draw(policy)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    parameters = list(policy.pi_head.parameters())
    ours = torch.autograd.grad(
        run(BehaviorCloneCallback(weight=0.3), action, logits, policy, mask)["loss"],
        parameters,
        retain_graph=True,
    )
    parts = policy.pi_head.logprob(action, logits, return_dict=True)
    if policy.action_space == minecraft_action_space():
        parts["camera"] = parts["camera"] * (action["camera"] != 60)[..., 0]
    logp = sum(parts.values()) if isinstance(parts, dict) else parts
    expected = torch.autograd.grad(-0.3 * (logp * mask).sum() / 2, parameters)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_accuracy_needs_every_part_to_agree():
    policy = HeadOnly(SPACES["countable-dict"])
    logits = {
        "a": log([[[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]]),
        "b": {"c": log([[[[0.8, 0.2, 0.0], [0.1, 0.2, 0.7]]] * 4])},
    }
    action = {
        "a": torch.tensor([[0, 0, 1, 1]]),
        "b": {"c": torch.tensor([[[0, 2], [0, 1], [0, 2], [0, 2]]])},
    }
    logits["b"]["c"] = logits["b"]["c"].clamp(min=-50)
    assert float(run(BehaviorCloneCallback(), action, logits, policy)["accuracy"]) == 0.5


def test_accuracy_is_left_out_where_actions_are_continuous():
    policy = Latent(SPACES["dict"])
    logits, action = draw(policy)
    result = run(BehaviorCloneCallback(), action, logits, policy)
    assert set(result) == {"loss", "forward_loss", "hotbar.1_loss", "inner_loss", "entropy", "bc_weight"}
    parts = sum(float(result[f"{key}_loss"]) for key in ("forward", "hotbar.1", "inner"))
    assert float(result["loss"]) == pytest.approx(parts, rel=1e-5)


def test_bfloat16_autocast_computes_the_loss_in_float32(policy):
    torch.manual_seed(0)
    latent = torch.randn(3, 4, policy.hiddim)
    action = draw(policy)[1]
    exact = run(BehaviorCloneCallback(), action, policy.pi_head(latent), policy)
    with torch.autocast("cpu", torch.bfloat16):
        result = run(BehaviorCloneCallback(), action, policy.pi_head(latent), policy)
    assert result["loss"].dtype == torch.float32
    assert float(result["loss"]) == pytest.approx(float(exact["loss"]), rel=0.03, abs=0.05)
    result["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.pi_head.parameters() if p.grad is not None)


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match=r"'max', expected 'sum' or 'mean'"):
        BehaviorCloneCallback(reduction="max")

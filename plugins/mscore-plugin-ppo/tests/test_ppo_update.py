"""One update: equal to Stable-Baselines3's, and what it starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_ppo import MLPPolicy, PPOTrainer
from mscore_plugin_ppo.learner.loss import LossSettings
from mscore_plugin_ppo.learner.minibatches import Minibatch, Minibatches
from mscore_plugin_ppo.learner.update import Learner, Tally, Update
from mscore_plugin_ppo.rollouts.versions import ValueScale
from mscore_plugin_ppo.trainers.ppo import normalized

from mscore import ObjectiveCallback
from mscore.testing.tiny import TinyEnvironment, TinyPolicy

GOLDEN = Path(__file__).parent / "golden" / "update_sb3.npz"


def loaded(golden, when):
    """The policy ``mlp`` with weights of Stable-Baselines3's ``MlpPolicy``."""
    policy = MLPPolicy(16, observation_space=spaces.Box(-1, 1, (4,)), action_space=spaces.Discrete(2))
    weights = {name.removeprefix(f"{when} "): torch.from_numpy(golden[name]) for name in golden if when in name}
    state = {
        "pi_head.linear_layer.weight": weights["action_net.weight"],
        "pi_head.linear_layer.bias": weights["action_net.bias"],
        "value_head.linear.weight": weights["value_net.weight"],
        "value_head.linear.bias": weights["value_net.bias"],
    }
    for layer in range(2):
        both = [f"mlp_extractor.{name}_net.{2 * layer}" for name in ("policy", "value")]
        state[f"networks.weight_{layer}"] = torch.stack([weights[f"{one}.weight"].T for one in both])
        state[f"networks.bias_{layer}"] = torch.stack([weights[f"{one}.bias"][None] for one in both])
    missing, unexpected = policy.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("normalizer" in name for name in missing)
    return policy


def test_an_update_is_stable_baselines3s():
    golden = np.load(GOLDEN)
    rollout = {
        name: torch.from_numpy(golden[name]).transpose(0, 1).contiguous()
        for name in ("observations", "actions", "log_probs", "values", "advantages", "returns")
    }
    mask = torch.ones(4, 16, dtype=torch.bool)
    batch = {
        "image": rollout["observations"],
        "agent_action": rollout["actions"],
        "mask": mask,
        "advantages": normalized(rollout["advantages"], mask),
        "td_targets": rollout["returns"],
        "old_logps": rollout["log_probs"],
        "old_vpreds": rollout["values"],
    }
    policy, expected = loaded(golden, "before"), loaded(golden, "after")
    # Its value loss is the squared error, ours half of it.
    settings = LossSettings(ppo_clip=0.1, ppo_vf_coef=1.0, entropy_bonus_coef=0.01)
    learner = Learner(policy, policy, torch.optim.Adam(policy.parameters(), 3e-2, eps=1e-5))
    tally = Tally()
    minibatches = Minibatches(batch, {}, recurrent=False, size=4, random=np.random.default_rng(0))
    for _ in range(3):
        learner.epoch(minibatches.epoch(), Update(settings, ValueScale(), 64), tally, measure=True)
    assert tally.means()["train/ppo/clip_fraction"] > 0.1
    before = loaded(golden, "before").state_dict()
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(policy.state_dict()[name], weight, atol=1e-5, rtol=1e-4)
        if "normalizer" not in name:
            assert (before[name] - weight).abs().max() > 1e-2, name


class Ratios(ObjectiveCallback):
    """Looks at the probability ratio of every minibatch."""

    def __init__(self):
        self.ratios = []

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logp = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        self.ratios.append((logp - batch["old_logps"]).exp().detach())
        return {}


def policy():
    torch.manual_seed(0)
    return TinyPolicy()


def ratios(make, **settings):
    looking = Ratios()
    arguments = {
        "num_envs": 4,
        "fragment_length": 12,
        "batch_size_per_gpu": 2,
        "batches_per_iteration": 2,
        "epochs_per_iteration": 1,
        "gradient_accumulation": 2,
        "num_iterations": 3,
        "learning_rate": 1e-2,
        **settings,
    }
    PPOTrainer(None, make, TinyEnvironment(), objectives={"ratios": looking}, **arguments).fit()
    return torch.cat([one.flatten() for one in looking.ratios])


@pytest.mark.parametrize("context_length", [64, 5])
def test_before_the_first_step_the_policy_that_learns_is_the_one_that_acted(context_length):
    """Also in windows, with the memory of fragments that begin in the middle of episodes."""
    found = ratios(policy, context_length=context_length)
    assert len(found) == 3 * 4 * 12
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-5, rtol=0)


def test_after_a_step_it_is_not():
    assert (ratios(policy, gradient_accumulation=1)[-24:] - 1).abs().max() > 1e-3


def test_no_gradient_flows_from_one_window_to_another():
    """What the second window's loss says about the first window's frames is nothing, and the values are the same."""
    model = policy()
    seen = torch.randn(2, 8, 4, requires_grad=True)
    data = {"image": seen, "first": torch.zeros(2, 8, dtype=torch.bool), "mask": torch.ones(2, 8, dtype=torch.bool)}
    data |= {"agent_action": torch.zeros(2, 8, dtype=torch.long)}
    data |= {name: torch.zeros(2, 8) for name in ("advantages", "old_logps", "old_vpreds", "td_targets")}
    late = torch.zeros(2, 8)
    late[:, 4:] = 100.0
    data["td_targets"] = late

    def gradient(context_length):
        seen.grad = None
        learner = Learner(model, model, torch.optim.SGD(model.parameters(), 0.0))
        tally = Tally()
        minibatch = Minibatch(data, model.initial_state(2), True)
        update = Update(LossSettings(), ValueScale(), context_length, values_only=True)
        learner.epoch([minibatch], update, tally, measure=False)
        return seen.grad[:, :4].abs().max(), tally.means()["train/ppo/value_loss"]

    (whole, loss), (cut, loss_in_windows) = gradient(8), gradient(4)
    assert loss_in_windows == pytest.approx(loss, rel=1e-5)
    assert whole > 100 * cut

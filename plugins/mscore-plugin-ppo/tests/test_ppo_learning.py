"""Minibatches, the loss, the reference, value normalization, and updates that are left out."""

import gymnasium
import numpy as np
import pytest
import torch
from mscore_plugin_ppo import LocalRolloutManager, PPOTrainer
from mscore_plugin_ppo.learner.loss import LossSettings, ppo_loss
from mscore_plugin_ppo.learner.minibatches import Minibatches, has_memory
from mscore_plugin_ppo.learner.values import ValueNormalizer
from mscore_plugin_ppo.policy import MLPPolicy
from mscore_plugin_ppo.rollouts.buffer import FragmentBuffer
from mscore_plugin_ppo.rollouts.versions import ModelVersion, ValueScale

from mscore import MscoreError, ObjectiveCallback
from mscore.testing.tiny import TinyEnvironment, TinyPolicy


def policy():
    torch.manual_seed(0)
    return TinyPolicy()


def trainer(**arguments):
    settings = {"num_envs": 4, "fragment_length": 8, "batch_size_per_gpu": 2, "batches_per_iteration": 2}
    made = PPOTrainer(
        None, policy, TinyEnvironment(), **{**settings, "num_iterations": 2, "learning_rate": 1e-2, **arguments}
    )
    torch.manual_seed(1)
    return made


class Watch:
    """Keeps what each iteration reported."""

    def __init__(self, look=None):
        self.rows, self.look = [], look

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        self.rows.append(metrics)
        if self.look is not None:
            self.look(trainer)

    def on_end(self, trainer):
        pass

    def close(self):
        pass


# --- minibatches ----------------------------------------------------------------------------------


def batch(rows=6, steps=4):
    number = torch.arange(rows * steps).view(rows, steps)
    return {
        "image": number.unsqueeze(-1).float(),
        "mission": [[f"{row}-{t}" for t in range(steps)] for row in range(rows)],
        "episode": [f"e{row}" for row in range(rows)],
        "mask": torch.ones(rows, steps, dtype=torch.bool),
    }


def minibatches(data, recurrent, size=2, **settings):
    state = {"memory": torch.arange(6).float().unsqueeze(-1)}
    return Minibatches(data, state, recurrent=recurrent, size=size, random=np.random.default_rng(0), **settings)


def test_fragments_of_a_policy_with_memory_stay_whole_with_their_state():
    found = list(minibatches(batch(), recurrent=True).epoch())
    assert [len(one.batch["mask"]) for one in found] == [2, 2, 2]
    rows = []
    for one in found:
        assert one.batch["image"].shape == (2, 4, 1)
        row = (one.batch["image"][:, 0, 0] / 4).long().tolist()
        assert one.state["memory"].squeeze(-1).tolist() == row
        assert one.batch["episode"] == [f"e{r}" for r in row]
        rows += row
    assert sorted(rows) == list(range(6))
    assert rows != list(range(6))


def test_frames_of_a_policy_without_memory_are_shuffled_and_invalid_ones_left_out():
    data = batch()
    data["mask"][2, 1:] = False
    found = list(minibatches(data, recurrent=False).epoch())
    numbers = torch.cat([one.batch["image"] for one in found])
    assert numbers.shape == (21, 1, 1)
    assert sorted(numbers.flatten().tolist()) == [n for n in range(24) if n not in (9, 10, 11)]
    for one in found:
        assert one.whole
        assert one.state is None
        for number, mission, episode in zip(
            one.batch["image"].flatten().long().tolist(), one.batch["mission"], one.batch["episode"], strict=True
        ):
            assert mission == [f"{number // 4}-{number % 4}"]
            assert episode == f"e{number // 4}"


def test_epochs_have_orders_of_their_own_that_the_generator_decides():
    made = minibatches(batch(), recurrent=True)
    first, second = ([one.batch["episode"] for one in made.epoch()] for _ in range(2))
    assert first != second
    assert [one.batch["episode"] for one in minibatches(batch(), recurrent=True).epoch()] == first


def test_which_policies_have_memory():
    box = gymnasium.spaces.Box(-1, 1, (3,))
    assert has_memory(policy())
    assert not has_memory(MLPPolicy(observation_space=box, action_space=gymnasium.spaces.Discrete(2)))


# --- the loss ---------------------------------------------------------------------------------------


def test_the_loss_is_the_clipped_surrogate_on_valid_steps():
    model = policy()
    data = {
        "image": torch.randn(2, 3, 4),
        "first": torch.zeros(2, 3, dtype=torch.bool),
        "agent_action": torch.randint(5, (2, 3)),
        "mask": torch.tensor([[True, True, False], [True, True, True]]),
        "advantages": torch.randn(2, 3),
        "td_targets": torch.randn(2, 3),
        "old_vpreds": torch.randn(2, 3),
        "old_logps": torch.randn(2, 3) - 2,
    }
    latents, _ = model(data, None)
    settings = LossSettings(ppo_clip=0.1, clip_vloss=True, ppo_vf_coef=0.7, entropy_bonus_coef=0.3)
    loss, terms = ppo_loss(settings, model, latents, data, ValueScale(), whole=False)
    logits, value, count = latents["pi_logits"].detach(), latents["vpred"].detach().squeeze(-1), 0
    expected = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0}
    for row, t in data["mask"].nonzero().tolist():
        logp = logits[row, t, data["agent_action"][row, t]]
        ratio = float((logp - data["old_logps"][row, t]).exp())
        gain = float(data["advantages"][row, t])
        expected["policy_loss"] -= min(ratio * gain, max(0.9, min(1.1, ratio)) * gain)
        old, target, new = (float(x[row, t]) for x in (data["old_vpreds"], data["td_targets"], value))
        near = old + max(-0.1, min(0.1, new - old))
        expected["value_loss"] += 0.5 * max((new - target) ** 2, (near - target) ** 2)
        expected["entropy"] -= float((logits[row, t].exp() * logits[row, t]).sum())
        count += 1
    for name, total in expected.items():
        assert float(terms[name]) == pytest.approx(total / count, rel=1e-4), name
    whole = expected["policy_loss"] + 0.7 * expected["value_loss"] - 0.3 * expected["entropy"]
    assert float(loss.detach()) == pytest.approx(whole / count, rel=1e-4)


# --- the reference ----------------------------------------------------------------------------------


def test_the_reference_remembers_as_the_policy_does_so_that_the_divergence_begins_at_zero():
    """Fragments begin in the middle of episodes; with a learning rate of 0 the two stay equal."""
    watch = Watch()
    trainer(num_iterations=4, fragment_length=3, kl_divergence_coef_rho=1.0, learning_rate=0.0, monitors=[watch]).fit()
    assert all(abs(row["train/ppo/reference_kl"]) < 1e-6 for row in watch.rows)


def test_the_divergence_holds_the_policy_near():
    def distance(rho):
        watch = Watch()
        trainer(num_iterations=15, kl_divergence_coef_rho=rho, monitors=[watch]).fit()
        return watch.rows[-1]["train/ppo/reference_kl"]

    assert distance(10.0) < 0.3 * distance(1e-6)


# --- values -----------------------------------------------------------------------------------------


def test_normalized_values_mean_the_same_returns_after_their_scale_has_changed():
    model = policy()
    values = ValueNormalizer(model, enabled=True)
    latent = torch.randn(3, 4, model.hiddim)
    values.update(torch.randn(3, 4) * 5 + 20)
    before = values.scale.denormalized(model.value_head(latent))
    values.update(torch.randn(3, 4) * 50 - 100)
    after = values.scale.denormalized(model.value_head(latent))
    assert values.scale.deviation > 20
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("normalized", [True, False])
def test_values_begin_at_zero_whatever_was_learned_before(normalized):
    model = policy()
    values = ValueNormalizer(model, enabled=True)
    values.update(torch.randn(3, 4) * 5 + 20)
    statistics = {name: value.clone() for name, value in model.value_head.normalizer.state_dict().items()}
    # MineStudio's zeroes the statistics as well, and its next targets are divided by nothing.
    values = ValueNormalizer(model, enabled=normalized)
    values.begin_at_zero()
    estimates = values.scale.denormalized(model.value_head(torch.randn(3, 4, model.hiddim)))
    torch.testing.assert_close(estimates, torch.zeros_like(estimates), atol=1e-4, rtol=0)
    for name, value in model.value_head.normalizer.state_dict().items():
        assert torch.equal(value, statistics[name])


def test_zero_initial_vf_is_done_once():
    seen = []

    def first_estimates(trainer):
        if trainer.iteration == 1:
            seen.append(trainer.policy.value_head.linear.weight.clone())

    done = trainer(zero_initial_vf=True, vf_warmup=5, learning_rate=1e-9, monitors=[Watch(first_estimates)])
    done.fit()
    assert seen[0].abs().max() < 1e-6
    kept = trainer(learning_rate=1e-9, monitors=[Watch(first_estimates)])
    kept.fit()
    assert seen[1].abs().max() > 1e-3


# --- updates that are left out ------------------------------------------------------------------------


class Sometimes(ObjectiveCallback):
    """Gives a loss that is not a number in some of its evaluations."""

    def __init__(self, bad):
        self.bad, self.calls = bad, 0

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        self.calls += 1
        loss = latents["vpred"].mean() * 0.01
        return {"loss": loss * float("nan") if self.bad(self.calls) else loss}


def test_an_update_that_is_not_finite_is_left_out_and_counted():
    watch = Watch()
    made = trainer(objectives={"odd": Sometimes(lambda call: call == 2)}, monitors=[watch])
    made.fit()
    assert [row["train/ppo/skipped_updates"] for row in watch.rows] == [1.0, 0.0]
    assert all(torch.isfinite(parameter).all() for parameter in made.policy.parameters())


def test_an_iteration_without_a_sound_update_stops_with_the_name_of_what_is_wrong():
    with pytest.raises(MscoreError, match="train/odd/loss was the first that was not finite"):
        trainer(objectives={"odd": Sometimes(lambda call: True)}).fit()


def test_objectives_read_each_fragment_once_and_are_evaluated_on_every_minibatch():
    class Counting(Sometimes):
        reads = 0

        def before_step(self, batch, batch_idx, step_name):
            self.reads += 1
            assert batch["agent_action"].shape == (4, 8)
            return {**batch, "marked": batch["timestamp"].float()}

        def __call__(self, batch, *others):
            assert torch.equal(batch["marked"], batch["timestamp"].float())
            return super().__call__(batch, *others)

    counting = Counting(lambda call: False)
    trainer(objectives={"counting": counting}, epochs_per_iteration=3).fit()
    assert (counting.reads, counting.calls) == (2, 12)


# --- versions, staleness, reuse -----------------------------------------------------------------------


def fragments(manager, version):
    manager.update_model(ModelVersion("s", version, dict(manager.worker.collector.policy.state_dict())))
    return manager.worker.collect()


def test_what_lags_too_far_behind_or_is_used_up_is_let_go():
    manager = LocalRolloutManager(policy, TinyEnvironment(), num_envs=2, fragment_length=4)
    buffer = FragmentBuffer(max_staleness=1, max_reuse=2)
    buffer.update("s", 1)
    made = {version: fragments(manager, version) for version in (1, 2, 3)}
    assert buffer.add(made[1])
    buffer.update("s", 2)
    assert buffer.add(made[2])
    assert [one.version for one in buffer.take(2)] == [1]
    assert [one.version for one in buffer.take(4)] == [2, 1]
    assert len(buffer) == 2  # version 2 has been used once
    buffer.update("s", 4)
    assert len(buffer) == 0
    assert buffer.dropped == 2
    assert not buffer.add(made[1])
    assert buffer.add(made[3])
    with pytest.raises(ValueError, match="4 fragments were asked for, and there are 2"):
        buffer.take(4)
    buffer.update("another session", 1)
    assert len(buffer) == 0


def test_a_fragment_is_used_as_often_as_it_may_be():
    watch = Watch()
    made = trainer(num_iterations=4, max_reuse=2, monitors=[watch])
    made.fit()
    assert made.env_steps == 2 * 4 * 8
    assert [row["rollout/staleness"] for row in watch.rows] == [0.0, 1.0, 0.0, 1.0]


def test_weights_of_another_policy_are_refused():
    manager = LocalRolloutManager(policy, TinyEnvironment(), num_envs=2, fragment_length=4)
    with pytest.raises(MscoreError, match="are not those of the policy"):
        manager.update_model(ModelVersion("s", 1, {"other": torch.zeros(1)}))
    with pytest.raises(MscoreError, match="no policy to act with yet"):
        manager.fetch_fragments(2)

"""What the tests on Ray send to other processes, in a module that those can import."""

import os
import signal
import time

import gymnasium
import numpy as np
import torch
from mscore_plugin_ppo import BaseTrainer, MLPPolicy, PPOTrainer

from mscore import MinePolicy, MscoreError


def cartpole():
    return gymnasium.make("CartPole-v1")


def policy():
    torch.manual_seed(0)
    env = cartpole()
    return MLPPolicy(16, observation_space=env.observation_space, action_space=env.action_space)


class Reinforce(BaseTrainer):
    """As the Usage section of the seeds has it: two methods, a pair returned."""

    def setup_model_and_optimizer(self):
        model = self.policy_generator()
        return model, torch.optim.Adam(model.parameters(), 5e-3)

    def train(self):
        lengths = []
        for _ in range(60):
            data = self.fetch_fragments_and_estimate_advantages(num_fragments=8)
            for record in data["records"]:
                lengths += [episode.length for episode in record.episodes]
                latents, _ = self.model(record.batch(), record.state)
                logp = self.model.pi_head.logprob(record.action, latents["pi_logits"])
                value = latents["vpred"].squeeze(-1)
                loss = (
                    -(logp * data["advantages"]).mean() / 10 + 0.1 * (value - data["td_targets"]).square().mean() / 10
                )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.broadcast_model_to_rollout_workers(new_version=True)
        return lengths


class Numbered(MinePolicy):
    """A policy whose value is its weights' version: a label that does not belong to the weights shows."""

    def __init__(self, action_space):
        super().__init__(4, action_space)
        self.number = torch.nn.Parameter(torch.zeros(200_000))

    def initial_state(self, batch_size=None):
        return {}

    def forward(self, input, state_in=None):
        rows, steps = input["first"].shape
        latents = torch.zeros(rows, steps, 4)
        # The ends of the parameter differ while it is being written.
        shown = torch.stack([self.number[0], self.number[-1]]).min().detach()
        return {"pi_logits": self.pi_head(latents), "vpred": shown.expand(rows, steps, 1)}, {}


def numbered():
    return Numbered(cartpole().action_space)


class Doomed:
    """Makes CartPoles that hang, raise or kill their process at a step, as long as a file is not there.

    Args:
        what: ``hang``, ``die`` or ``raise``.
        at: step of each episode.
        until: path that is made when it happens, after which it does not happen again; None for always.
    """

    def __init__(self, what, at=3, until=None):
        self.what, self.at, self.until = what, at, until

    def __call__(self):
        return _Doomed(self)


class _Doomed(gymnasium.Wrapper):
    def __init__(self, doom):
        super().__init__(cartpole())
        self.doom, self.t = doom, 0

    def reset(self, **kwargs):
        self.t = 0
        return super().reset(**kwargs)

    def step(self, action):
        self.t += 1
        doom = self.doom
        if self.t == doom.at and not (doom.until is not None and os.path.exists(doom.until)):
            if doom.until is not None:
                open(doom.until, "w").close()
            if doom.what == "hang":
                time.sleep(120)
            if doom.what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the game crashed")
        return super().step(action)


class Poisoned(PPOTrainer):
    """PPO in which one rank's second iteration has a target that is not a number; it notes how far ranks differ."""

    def iterate(self):
        metrics = super().iterate()
        own = torch.cat([one.detach().flatten() for one in self.policy.parameters()])
        metrics["apart"] = max(float((own - other).abs().max()) for other in self.ranks.gather(own))
        metrics["finite"] = float(own.isfinite().all())
        self.rows = [*getattr(self, "rows", []), metrics]
        return metrics

    def fetch_fragments_and_estimate_advantages(self, num_fragments):
        data = super().fetch_fragments_and_estimate_advantages(num_fragments)
        if self.iteration == 1 and self.ranks.rank == 1:
            data["td_targets"][0, 0] = float("nan")
        return data

    def train(self):
        super().train()
        return self.rows


class Refusing(BaseTrainer):
    """Raises on one rank while the other waits for it."""

    error = MscoreError

    def setup_model_and_optimizer(self):
        model = self.policy_generator()
        return model, torch.optim.SGD(model.parameters(), 0.1)

    def train(self):
        print("about to fail")
        if self.ranks.rank == self.ranks.world - 1:
            raise self.error("the rewards of this task are not known; name a reward")
        self.ranks.gather(None)


class Mistaken(Refusing):
    error = ZeroDivisionError


class BigBatch(PPOTrainer):
    """One update on fragments that the test made, of which each rank takes its rows."""

    whole: object

    def fetch_fragments_and_estimate_advantages(self, num_fragments):
        rows = slice(self.ranks.rank, None, self.ranks.world)
        data = {name: self.whole[name][rows] for name in self.whole if name != "batch"}
        self.batch = {name: value[rows] for name, value in self.whole["batch"].items()}
        return {**data, "records": []}

    def _prepared(self, data):
        from mscore_plugin_ppo.trainers.ppo import normalized

        advantages = normalized(data["advantages"], data["valid"], self.ranks)
        return {**self.batch, **data, "advantages": advantages, "mask": data["valid"]}, {}

    def train(self):
        self._begin()
        data = self.fetch_fragments_and_estimate_advantages(num_fragments=0)
        from mscore_plugin_ppo.learner.update import Update

        batch, state = self._prepared(data)
        self.values.update(data["td_targets"][data["valid"]].unsqueeze(0))
        self._learn(batch, state, Update(self.settings, self.values.scale, 64, max_grad_norm=0.5))
        return self.values.scale


def whole_batch():
    """Four rows of eight steps."""
    random = np.random.default_rng(0)

    def numbers(*shape):
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

    return {
        "batch": {
            "image": numbers(4, 8, 4),
            "agent_action": torch.from_numpy(random.integers(0, 2, (4, 8))),
            "first": torch.zeros(4, 8, dtype=torch.bool),
        },
        "advantages": numbers(4, 8),
        "td_targets": numbers(4, 8) * 3 + 5,
        "old_vpreds": numbers(4, 8),
        "old_logps": numbers(4, 8) * 0.1 - 0.7,
        "valid": torch.ones(4, 8, dtype=torch.bool),
    }

"""Acting: a policy plays in environments that are stepped together, and fragments come out."""

from typing import Any

import numpy as np
import torch

from mscore import Environment, MinePolicy, tree_map
from mscore_plugin_ppo.environments.transition import Environments
from mscore_plugin_ppo.rollouts.actions import to_environments
from mscore_plugin_ppo.rollouts.advantages import Steps
from mscore_plugin_ppo.rollouts.episodes import End, EpisodeCounter
from mscore_plugin_ppo.rollouts.fragments import Fragments
from mscore_plugin_ppo.rollouts.observations import Observations, frame_of
from mscore_plugin_ppo.rollouts.versions import ModelVersion

_AT_ONCE = 32
"""Steps whose log-probabilities are computed together: their logits are kept until then."""


class Collector:
    """Plays on and on with a policy, a fragment of every environment at a time.

    Args:
        policy: acts; its weights are set from the outside.
        environments: where it acts.
        environment: the factory, which knows what a success is.
        fragment_length: steps of a fragment.
        worker: a name that tells this collector from others.
        device: where the policy computes.
    """

    def __init__(
        self,
        policy: MinePolicy,
        environments: Environments,
        environment: Environment,
        fragment_length: int,
        worker: str = "0",
        device: torch.device | str = "cpu",
    ) -> None:
        self.policy = policy.to(device).eval()
        self.environments = environments
        self.fragment_length = fragment_length
        self.worker = worker
        self.device = torch.device(device)
        self._number = 0
        self._state: Any = None
        self._shown: Any = None
        self._first = np.ones(environments.num_envs, dtype=np.bool_)
        self._episodes = EpisodeCounter(environments.num_envs, environment)

    def collect(self, version: ModelVersion) -> Fragments:
        """Play the next fragment of every environment with the weights that the policy has.

        Args:
            version: what these weights are called, and the scale of their value estimates.
        """
        steps, num_envs, policy = self.fragment_length, self.environments.num_envs, self.policy
        space = self.environments.observation_space
        if self._shown is None:
            self._shown = self.environments.reset()
        observations = Observations(space, steps, num_envs)
        first = np.empty((steps, num_envs), dtype=np.bool_)
        reward = np.empty((steps, num_envs), dtype=np.float32)
        terminated, truncated, valid = (np.empty((steps, num_envs), dtype=np.bool_) for _ in range(3))
        final_values = np.zeros((steps, num_envs), dtype=np.float32)
        finals: dict[tuple[int, int], Any] = {}
        ends: list[End] = []
        actions: list[Any] = []
        logits: list[Any] = []
        logps: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        with torch.inference_mode():
            if self._state is None:
                self._state = policy.initial_state(num_envs)
            begin = self._state
            for t in range(steps):
                observations.put(t, self._shown)
                first[t] = self._first
                latents, self._state = policy(self._window(observations.frame(t), first[t]), self._state)
                action = policy.pi_head.sample(latents["pi_logits"])
                actions.append(action)
                logits.append(latents["pi_logits"])
                values.append(latents["vpred"])
                if len(logits) == _AT_ONCE or t == steps - 1:
                    logps.append(policy.pi_head.logprob(_joined(actions[-len(logits) :]), _joined(logits)))
                    logits.clear()
                moved = self.environments.step(to_environments(action, self.environments.action_space))
                reward[t], terminated[t], truncated[t] = moved.reward, moved.terminated, moved.truncated
                valid[t] = moved.valid
                if moved.final:
                    ends += [End(row, t, bool(terminated[t, row]), info) for row, (_, info) in moved.final.items()]
                    rows = [row for row in moved.final if truncated[t, row] and not terminated[t, row]]
                    if rows:
                        last = [moved.final[row][0] for row in rows]
                        finals.update({(row, t): observation for row, observation in zip(rows, last, strict=True)})
                        going = np.zeros(len(rows), dtype=np.bool_)
                        final_values[t, rows] = self._values_of(frame_of(space, last), self._rows(rows), going)
                self._shown, self._first = moved.observation, moved.began
            following = Observations(space, 1, num_envs)
            following.put(0, self._shown)
            next_observation = following.frame(0)
            next_values = self._values_of(next_observation, self._state, self._first)
        # Outside of the inference mode, so that the copies may take part in a graph.
        value = torch.cat(values, dim=1).squeeze(-1).cpu().numpy().T
        scale = version.value_scale
        fragments = Fragments(
            observation=observations.window(),
            action=tree_map(lambda leaf: leaf.cpu(), _joined(actions)),
            first=torch.from_numpy(first).transpose(0, 1),
            valid=torch.from_numpy(valid).transpose(0, 1),
            state=tree_map(lambda leaf: leaf.clone().cpu(), begin),
            logp=torch.cat(logps, dim=1).cpu(),
            steps=Steps(
                rewards=reward,
                values=np.ascontiguousarray(scale.denormalized(value)),
                terminated=terminated,
                truncated=truncated & ~terminated,
                final_values=scale.denormalized(final_values),
                valid=valid,
                next_values=scale.denormalized(next_values),
            ),
            next_observation=next_observation,
            final_observations=finals,
            episodes=self._episodes.count(reward, valid, first, ends),
            worker=self.worker,
            number=self._number,
            session=version.session,
            version=version.version,
        )
        self._number += 1
        return fragments

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain data and tensors; :meth:`load_state_dict` goes on from there."""
        return {
            "number": self._number,
            "state": tree_map(lambda leaf: leaf.clone().cpu(), self._state),
            "first": torch.from_numpy(self._first.copy()),
            "returns": torch.from_numpy(self._episodes.returns.copy()),
            "lengths": torch.from_numpy(self._episodes.lengths.copy()),
            "environments": self.environments.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._shown = self.environments.load_state_dict(state["environments"])
        self._number = state["number"]
        self._state = tree_map(lambda leaf: leaf.to(self.device), state["state"])
        self._first, self._episodes.returns, self._episodes.lengths = (
            state[name].numpy().copy() for name in ("first", "returns", "lengths")
        )

    def _window(self, frame: dict[str, Any], first: Any) -> dict[str, Any]:
        window = {**frame, "first": torch.from_numpy(first).unsqueeze(1)}
        if self.device.type == "cpu":
            return window
        return tree_map(lambda leaf: leaf.to(self.device), window)  # type: ignore[no-any-return]

    def _values_of(self, frame: dict[str, Any], state: Any, first: Any) -> Any:
        """Value estimates (B,) of observations that are not acted upon."""
        latents, _ = self.policy(self._window(frame, first), state)
        return latents["vpred"].flatten().cpu().numpy()

    def _rows(self, rows: list[int]) -> Any:
        return tree_map(lambda leaf: leaf[rows], self._state)


def _joined(steps: list[Any]) -> Any:
    """Nests (N, 1, …), one per step, as one (N, steps, …)."""
    return tree_map(lambda *leaves: torch.cat(leaves, dim=1), steps[0], *steps[1:])

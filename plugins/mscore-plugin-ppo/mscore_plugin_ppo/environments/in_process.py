"""Environments in this process, stepped one after another."""

import warnings
from typing import Any

import gymnasium
import numpy as np

from mscore import Environment, MscoreError
from mscore_plugin_ppo.environments.history import EpisodeHistory, can_be_replayed
from mscore_plugin_ppo.environments.transition import Transition
from mscore_plugin_ppo.rollouts.observations import batched

_REMEDY = "with `env_processes: true` an environment that fails is replaced"


class InProcessEnvironments:
    """N environments of one factory in this process, as ``environment.vector`` makes them (SAME_STEP autoreset).

    A vector environment of its own kind steps itself. Those that gymnasium's ``SyncVectorEnv`` holds are stepped
    here: that is half of its cost for fast environments, and each keeps the history by which it is brought back.

    Args:
        environment: the factory.
        num_envs: N.
        seed: from which every episode's seed is derived.

    Raises:
        MscoreError: an environment cannot be made, or raises (its name, step and seed are in the message).
    """

    def __init__(self, environment: Environment, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        try:
            self._vector = environment.vector(num_envs)
        except Exception as error:
            raise MscoreError(f"the environments cannot be made: {type(error).__name__}: {error}") from error
        mode = self._vector.metadata.get("autoreset_mode")
        if mode != gymnasium.vector.AutoresetMode.SAME_STEP:
            raise MscoreError(
                f"{type(self._vector).__name__}, which the environment's `vector` made, has the autoreset mode "
                f"{getattr(mode, 'value', mode)}; expected SAME_STEP"
            )
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._episodes: list[_Episodes] = []
        self._seed = seed
        if isinstance(self._vector, gymnasium.vector.SyncVectorEnv):
            self._episodes = [_Episodes(env, seed, index) for index, env in enumerate(self._vector.envs)]
        self._shown: list[Any] = []
        self._bare = isinstance(self.observation_space, gymnasium.spaces.Box)
        self._all_valid = np.ones(num_envs, dtype=np.bool_)
        self._all_valid.flags.writeable = False

    def reset(self) -> Any:
        """Begin an episode in each."""
        if self._episodes:
            return self._show([env.reset()[0] for env in self._episodes])
        observation, _ = self._vector.reset(seed=self._seed)
        return observation

    def step(self, actions: Any) -> Transition:
        """Act in each."""
        return self._step_each(actions) if self._episodes else self._step_all(actions)

    def _step_each(self, actions: Any) -> Transition:
        if not isinstance(actions, np.ndarray):
            actions = gymnasium.vector.utils.iterate(self._vector.action_space, actions)
        reward = np.empty(self.num_envs, dtype=np.float32)
        terminated, truncated = np.empty(self.num_envs, dtype=np.bool_), np.empty(self.num_envs, dtype=np.bool_)
        final = {}
        for row, (env, action) in enumerate(zip(self._episodes, actions, strict=True)):
            observation, reward[row], terminated[row], truncated[row], info = env.step(action)
            if terminated[row] or truncated[row]:
                final[row] = (observation, info)
                observation, _ = env.reset()
            self._shown[row] = observation
        shown = self._show(self._shown)
        return Transition(shown, reward, terminated, truncated, terminated | truncated, self._all_valid, final)

    def _show(self, observations: list[Any]) -> Any:
        self._shown = observations
        if self._bare:
            return np.stack(observations)
        return batched(self.observation_space, observations)

    def _step_all(self, actions: Any) -> Transition:
        observation, reward, terminated, truncated, infos = self._vector.step(actions)
        began = terminated | truncated
        final = {}
        if "final_obs" in infos:
            finals, last = infos["final_obs"], infos.get("final_info", {})
            final = {row: (finals[row], _info_of(last, row)) for row in np.flatnonzero(began).tolist()}
        return Transition(observation, reward.astype(np.float32), terminated, truncated, began, self._all_valid, final)

    def state_dict(self) -> dict[str, Any]:
        """The history of each episode; nothing for environments that have a vector form of their own."""
        return {"histories": [one.history.state_dict() for one in self._episodes]}

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Play each episode again up to where it was."""
        replayed = self._episodes and can_be_replayed(self._episodes[0])
        if len(state["histories"]) != len(self._episodes) or not replayed:
            warnings.warn("the environments cannot be brought back to where they were; they begin anew", stacklevel=2)
            return self.reset()
        return self._show([one.replay(saved) for one, saved in zip(self._episodes, state["histories"], strict=True)])

    def health(self) -> dict[str, int]:
        """Nothing can go wrong here that would not stop the run."""
        return {}

    def close(self) -> None:
        """Close them."""
        self._vector.close()


class _Episodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Seeds every episode by itself, and remembers what was done in it."""

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int, index: int) -> None:
        super().__init__(env)
        self.history = EpisodeHistory(seed, index, env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._begin(self.history.begin(), options)

    def _begin(self, seed: int, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise MscoreError(f"{self._name()} raised in reset(seed={seed}): {_brief(error)}; {_REMEDY}") from error

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.history.actions.append(action)
        try:
            return self.env.step(action)
        except Exception as error:
            raise MscoreError(
                f"{self._name()} raised in step {len(self.history.actions) - 1} of the episode with seed "
                f"{self.history.seed}: {_brief(error)}; {_REMEDY}"
            ) from error

    def replay(self, state: dict[str, Any]) -> Any:
        self.history.load_state_dict(state)
        observation, _ = self._begin(self.history.seed)
        for action in self.history.actions:
            observation, *_ = self.env.step(action)
        return observation

    def _name(self) -> str:
        return self.env.spec.id if self.env.spec is not None else type(self.env.unwrapped).__name__


def _info_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """One environment's part of the infos that a vector environment gathered."""
    return {
        key: _info_of(value, row) if isinstance(value, dict) else value[row]
        for key, value in infos.items()
        if not key.startswith("_") and infos.get(f"_{key}", _everyone)[row]
    }


class _Everyone:
    def __getitem__(self, row: int) -> bool:
        return True


_everyone = _Everyone()


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

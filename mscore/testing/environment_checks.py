"""What an environment must do: gymnasium's own checks, independence, seeds, and what it offers besides."""

import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from mscore.errors import MscoreError
from mscore.heads.spaces import describe_space
from mscore.testing.checks import CheckFailed, CheckSkipped, check, require
from mscore.testing.subjects import ComponentSubject

ENVIRONMENT = "environment"
_STEPS = 12


def _make(subject: ComponentSubject, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    env = subject.build().make(render_mode)
    require(isinstance(env, gymnasium.Env), f"make() returned a {type(env).__name__}, expected a gymnasium.Env")
    return env  # type: ignore[no-any-return]


def _played(env: gymnasium.Env[Any, Any], actions: list[Any], seed: int = 7) -> list[Any]:
    """What an episode (and the next ones, without a seed) shows."""
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append((observation, float(reward), terminated, truncated))
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


def _actions(env: gymnasium.Env[Any, Any]) -> list[Any]:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(_STEPS)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))


@check(ENVIRONMENT, "gymnasium", remedy="mend what gymnasium's check_env says; its pages on custom environments help")
def gymnasium_check(subject: ComponentSubject) -> None:
    """gymnasium's own `check_env` finds nothing wrong."""
    env = _make(subject)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(env, skip_render_check=True, skip_close_check=True)
    except Exception as error:
        text = " ".join(str(error).split())
        raise CheckFailed(text or f"it raised {type(error).__name__}") from error


@check(ENVIRONMENT, "spaces", remedy="use Box, Discrete, MultiDiscrete, MultiBinary, Text, and Dict and Tuple of these")
def known_spaces(subject: ComponentSubject) -> str:
    """Its spaces are of kinds that policies and checkpoints know."""
    env = _make(subject)
    for space in (env.observation_space, env.action_space):
        try:
            describe_space(space)
        except MscoreError as error:
            raise CheckFailed(str(error)) from error
    return f"{env.observation_space}, {env.action_space}"


@check(ENVIRONMENT, "seeds", remedy="draw from `self.np_random` alone, after `super().reset(seed=seed)`")
def seeds(subject: ComponentSubject) -> None:
    """A seed and actions determine what is seen, in another instance and a second time."""
    env, other = _make(subject), _make(subject)
    actions = _actions(env)
    first = _played(env, actions)
    require(_same(first, _played(other, actions)), "another instance shows something else with the same seed")
    require(_same(first, _played(env, actions)), "reset with the same seed again, it shows something else")


@check(ENVIRONMENT, "independent", remedy="make a new environment in each call, and share no state between them")
def independent(subject: ComponentSubject) -> None:
    """Two environments of one factory do not touch each other."""
    factory = subject.build()
    env, other = factory.make(), factory.make()
    require(env is not other, "make() returned the same environment twice")
    actions = _actions(env)
    alone = _played(env, actions[:6])
    env.reset(seed=7)
    other.reset(seed=8)
    seen = []
    for action in actions[:6]:
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append((observation, float(reward), terminated, truncated))
        _, _, over, cut_off, _ = other.step(action)
        if over or cut_off:
            other.reset()
        if terminated or truncated:
            seen.append(env.reset()[0])
    require(_same(seen, alone[1:]), "stepping another environment changes what one shows")


@check(ENVIRONMENT, "vector", remedy="return a VectorEnv with `autoreset_mode=AutoresetMode.SAME_STEP`")
def vector(subject: ComponentSubject) -> None:
    """`vector(n)` steps n environments together, and one that ends is reset in the same step."""
    many = subject.build().vector(2)
    require(isinstance(many, gymnasium.vector.VectorEnv), f"it is a {type(many).__name__}, expected a VectorEnv")
    require(many.num_envs == 2, f"vector(2) has {many.num_envs} environments")
    mode = (many.metadata or {}).get("autoreset_mode")
    require(mode == gymnasium.vector.AutoresetMode.SAME_STEP, f"its autoreset_mode is {mode}, expected SAME_STEP")
    many.reset(seed=[1, 2])
    many.action_space.seed(0)
    for _ in range(_STEPS):
        _, rewards, terminated, truncated, _ = many.step(many.action_space.sample())
        shapes = {np.shape(rewards), np.shape(terminated), np.shape(truncated)}
        require(shapes == {(2,)}, f"rewards and ends have the shapes {shapes}, expected (2,)")
    many.close()


@check(ENVIRONMENT, "expert", remedy="return None where there is no expert; else a function of the observation")
def expert(subject: ComponentSubject) -> None:
    """An expert, where there is one, gives actions of the action space."""
    factory = subject.build()
    env = factory.make()
    observation, _ = env.reset(seed=3)
    try:
        player = factory.expert(env)
    except MscoreError as error:
        raise CheckSkipped(f"there is none: {error}") from error
    if player is None:
        raise CheckSkipped("there is none")
    for _ in range(_STEPS):
        action = player(observation)
        known = env.action_space.contains(action) or env.action_space.contains(np.int64(action))
        require(known, f"the expert's action {action!r} lies outside of {env.action_space}")
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break


@check(ENVIRONMENT, "success", remedy="return True, False, or None where the notion does not exist")
def success(subject: ComponentSubject) -> None:
    """`success` answers True, False or None for an episode that has ended."""
    factory = subject.build()
    env = factory.make()
    env.reset(seed=3)
    env.action_space.seed(3)
    total, info, terminated = 0.0, {}, False
    for _ in range(_STEPS):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total += float(reward)
        if terminated or truncated:
            break
    answer = factory.success(total, terminated, info)
    require(answer is None or isinstance(answer, bool), f"it answered {answer!r}, expected True, False or None")


@check(ENVIRONMENT, "pictures", remedy='let `render()` return (H, W, 3) uint8 under render_mode="rgb_array"')
def pictures(subject: ComponentSubject) -> None:
    """Where it can be shown, `render()` gives a picture, for films."""
    modes = _make(subject).metadata.get("render_modes", [])
    if "rgb_array" not in modes:
        raise CheckSkipped("it has no render mode rgb_array")
    env = _make(subject, "rgb_array")
    env.reset(seed=0)
    picture: Any = env.render()
    fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    require(fits, f"render() gave {getattr(picture, 'shape', type(picture).__name__)}, expected (H, W, 3) uint8")


@check(ENVIRONMENT, "picklable", remedy="keep parameters only; make environments in `make`")
def picklable(subject: ComponentSubject) -> None:
    """The factory can be sent to a process that is spawned."""
    factory = subject.build()
    try:
        pickle.loads(pickle.dumps(factory))
    except Exception as error:
        raise CheckFailed(f"{type(error).__name__}: {error}") from error

"""Playing episodes: environments side by side in one process, one batched policy call a step."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from mscore.contracts.environment import Environment
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.heads.spaces import batch_observation, describe_space, to_environment
from mscore.tree import tree_map

Picture = NDArray[np.uint8]
"""A rendered frame, (H, W, 3) RGB."""

_FRAMES_PER_SECOND = 10  # for environments that do not say at which rate they are to be shown
_SMALL_POLICY = 2_000_000  # parameters


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode ended."""

    seed: int
    """The environment was reset with it."""
    episode_return: float
    """Sum of the rewards."""
    length: int
    """Number of steps."""
    terminated: bool
    """It ended by itself; False when a time limit cut it off."""
    success: bool | None
    """What the environment calls a success; None where it has no such notion."""


class FrameRecorder(Protocol):
    """Receives what the environments render while episodes are played."""

    def episode_start(self, seed: int, frames_per_second: int) -> None:
        """An episode begins; what follows up to its end belongs to it."""
        ...

    def frame(self, picture: Picture) -> None:
        """A picture: one after the reset and one after every step."""
        ...

    def episode_end(self, result: EpisodeResult) -> None:
        """The episode is over."""
        ...


class RenderError(MscoreError):
    """An environment that was to be recorded cannot render."""


def rollout(
    policy: MinePolicy,
    environment: Environment,
    *,
    episodes: int,
    seed: int,
    num_envs: int = 16,
    deterministic: bool = True,
    frames: FrameRecorder | None = None,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Play episodes and report how each ended.

    Episode ``i`` is played once, in an environment that was reset with ``seed + i``. With deterministic
    actions the results depend on the seed alone, not on ``num_envs`` (up to rounding, where two actions
    are equally probable to the last bits); sampled actions depend on both.

    The policy is in eval mode meanwhile, and modes and the global random states of torch, numpy and
    Python are afterwards what they were before: training goes on as if nothing had happened.

    Args:
        policy: acts on windows of one frame; its memory is kept per environment.
        environment: makes the environments, which are closed again in any case.
        episodes: how many, at least 1.
        seed: of the first episode.
        num_envs: environments stepped side by side.
        deterministic: take the most probable action instead of sampling.
        frames: receives rendered pictures. The environment is then made for ``rgb_array``, and there is
            only one whatever ``num_envs`` says: the pictures come episode by episode.
        progress: called after every episode, in the order in which they end.

    Returns:
        One result per episode, ordered by seed.

    Raises:
        MscoreError: if an environment raises (its name and the episode's seed are in the message), or
            its action space is not the policy's.
        RenderError: if ``frames`` are wanted and the environment cannot render.
        ValueError: for less than one episode or environment.
    """
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"episodes is {episodes} and num_envs is {num_envs}; both must be at least 1")
    results: dict[int, EpisodeResult] = {}
    pending = iter(range(seed, seed + episodes))
    players: list[_Player] = []
    with _isolated_random_state(seed, policy.device), _evaluation_mode(policy), _fitting_threads(policy):
        try:
            for _ in range(1 if frames is not None else min(num_envs, episodes)):
                players.append(_Player(environment, frames))
                players[-1].start(next(pending))
            _check_actions(policy, players[0])
            for result in _play(policy, players, pending, deterministic):
                results[result.seed] = result
                if progress is not None:
                    progress(result)
        finally:
            for player in players:
                player.close()
    return [results[key] for key in sorted(results)]


def _play(
    policy: MinePolicy, players: list["_Player"], pending: Iterator[int], deterministic: bool
) -> Iterator[EpisodeResult]:
    """Step all players together until no episode is left, yielding results as episodes end."""
    active = list(players)
    dtype = next((p.dtype for p in policy.parameters() if p.is_floating_point()), torch.float32)
    initial = policy.initial_state(1)
    state = policy.initial_state(len(active))
    starts = [True] * len(active)
    while active:
        observation = batch_observation([player.observation for player in active], policy.device)
        window = tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, observation)
        window["first"] = torch.tensor(starts, device=policy.device).unsqueeze(1)
        with torch.inference_mode():
            action, state = policy.get_action(window, state, deterministic=deterministic)
        # One copy from the device for all rows; numpy knows no bfloat16.
        action = tree_map(lambda leaf: (leaf.float() if leaf.is_floating_point() else leaf)[:, 0].cpu(), action)
        kept, starts = [], []
        for row, player in enumerate(active):
            result = player.step(tree_map(lambda leaf, row=row: leaf[row], action))
            if result is not None:
                yield result
                following = next(pending, None)
                if following is None:
                    continue
                player.start(following)
            kept.append(row)
            starts.append(result is not None)
        with torch.inference_mode():
            if len(kept) < len(active):
                active = [active[row] for row in kept]
                rows = torch.tensor(kept, dtype=torch.long, device=policy.device)
                state = tree_map(lambda leaf, rows=rows: leaf[rows.to(leaf.device)], state)
            if any(starts):
                state = _restart_rows(state, initial, torch.tensor(starts))


def _restart_rows(state: Any, initial: Any, rows: torch.Tensor) -> Any:
    """The state with the rows that are true in ``rows`` (B,) put back to the initial state (batch of 1)."""

    def restart(leaf: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        mask = rows.to(leaf.device).view(-1, *[1] * (leaf.dim() - 1))
        return torch.where(mask, fresh.to(leaf.dtype), leaf)

    return tree_map(restart, state, initial)


class _Player:
    """One environment and the episode that is being played in it."""

    def __init__(self, environment: Environment, frames: FrameRecorder | None) -> None:
        self._environment = environment
        self._frames = frames
        self.env = self._make()
        self.name = self.env.spec.id if self.env.spec is not None else type(self.env.unwrapped).__name__
        self.observation: Any = None
        self._seed = 0
        self._return = 0.0
        self._length = 0

    def _make(self) -> gymnasium.Env[Any, Any]:
        name = type(self._environment).__name__
        try:
            return self._environment.make(render_mode=None if self._frames is None else "rgb_array")
        except Exception as error:
            if self._frames is not None:
                raise RenderError(f"{name} makes no environment for rgb_array: {_brief(error)}") from error
            raise MscoreError(f"{name} could not make an environment: {_brief(error)}") from error

    def start(self, seed: int) -> None:
        """Begin the episode with this seed."""
        self._seed, self._return, self._length = seed, 0.0, 0
        try:
            self.observation, _ = self.env.reset(seed=seed)
        except Exception as error:
            raise MscoreError(f"{self.name} raised in reset(seed={seed}): {_brief(error)}") from error
        if self._frames is not None:
            rate = (self.env.metadata or {}).get("render_fps") or _FRAMES_PER_SECOND
            self._frames.episode_start(seed, max(1, round(rate)))
        self._render()

    def step(self, action: Any) -> EpisodeResult | None:
        """Act (a nest of tensors without leading dimensions); the result if that ended the episode."""
        try:
            action = to_environment(action, self.env.action_space)
            self.observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise MscoreError(
                f"{self.name} raised in step {self._length} of the episode with seed {self._seed}: {_brief(error)}"
            ) from error
        self._return += float(reward)
        self._length += 1
        self._render()
        if not (terminated or truncated):
            return None
        success = self._environment.success(self._return, bool(terminated), info)
        result = EpisodeResult(self._seed, self._return, self._length, bool(terminated), success)
        if self._frames is not None:
            self._frames.episode_end(result)
        return result

    def _render(self) -> None:
        if self._frames is None:
            return
        try:
            picture: Any = self.env.render()
        except Exception as error:
            raise RenderError(f"{self.name} cannot render: {_brief(error)}") from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            found = f"shape {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise RenderError(f"{self.name} cannot render: render() gave {found}, expected an array (H, W, 3)")
        self._frames.frame(picture.astype(np.uint8, copy=False))

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _check_actions(policy: MinePolicy, player: _Player) -> None:
    acts, expected = describe_space(policy.action_space), describe_space(player.env.action_space)
    if acts != expected:
        raise MscoreError(
            f"the policy acts in {policy.action_space}, but {player.name} expects {player.env.action_space}; "
            "evaluate it in the environment that it was made for"
        )


@contextmanager
def _evaluation_mode(policy: MinePolicy) -> Iterator[None]:
    """Eval mode inside; afterwards every module's own mode again (some may be frozen in eval mode)."""
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _fitting_threads(policy: MinePolicy) -> Iterator[None]:
    """One thread inside for a small policy on the CPU.

    A step's work is then too little to share: waiting for the other threads costs more than they save,
    and a hundred times more where other processes compute as well.
    """
    threads = torch.get_num_threads()
    small = sum(parameter.numel() for parameter in policy.parameters()) < _SMALL_POLICY
    if threads == 1 or not small or policy.device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _isolated_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states inside, and put the former ones back afterwards, also on errors."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # torch.manual_seed seeds every device of the process.
    forked = [] if device.type in ("cpu", "mps") else range(getattr(torch, device.type).device_count())
    with torch.random.fork_rng(devices=forked, device_type="cuda" if device.type == "cpu" else device.type):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)

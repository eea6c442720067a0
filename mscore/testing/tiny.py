"""Parts small enough to check by hand: a policy, batches, a data module and an environment."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn
from torch.utils.data import DataLoader

from mscore import Environment, MinePolicy, ObjectiveCallback, ResumableDataModule, WindowDataset
from mscore.contracts.policy import State

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (4,), np.float32)
"""What the tiny parts show, under the name ``image``."""


def tiny_action_space() -> spaces.Discrete:
    """What the tiny parts choose from unless told otherwise: Discrete(5)."""
    return spaces.Discrete(5)


class TinyPolicy(MinePolicy):
    """A policy with a running sum as memory.

    Args:
        action_space: any space that the heads support; Discrete(5) by default.
        hiddim: width of the latent.
        observation_space: what it reads; by default observations called ``image``, (B, T, 4) float32.
        kl_latents: also return ``posterior_dist`` and ``prior_dist``, dicts of ``mu`` and ``log_var``
            (B, T, 3), as objectives for latent Gaussians need them.
    """

    def __init__(
        self,
        action_space: gymnasium.Space[Any] | None = None,
        hiddim: int = 8,
        observation_space: gymnasium.Space[Any] | None = None,
        *,
        kl_latents: bool = False,
    ) -> None:
        super().__init__(hiddim, tiny_action_space() if action_space is None else action_space)
        self.observation_space = OBSERVATIONS if observation_space is None else observation_space
        self.encoder = nn.Linear(_width(self.observation_space), hiddim)
        self.gaussians = nn.Linear(hiddim, 12) if kl_latents else None
        more = ("posterior_dist", "prior_dist") if kl_latents else ()
        self.provides_latents = frozenset({"pi_logits", "vpred", *more})  # type: ignore[misc]

    def initial_state(self, batch_size: int | None = None) -> State:
        """A zero sum: (batch_size, hiddim)."""
        shape = (self.hiddim,) if batch_size is None else (batch_size, self.hiddim)
        return {"sum": torch.zeros(shape, device=self.device)}

    def forward(self, input: dict[str, Any], state_in: State = None) -> tuple[dict[str, Any], State]:
        """Add up the encoded observations since the last ``first``, at half weight per step."""
        bare = not isinstance(self.observation_space, spaces.Dict)
        seen = _numbers(self.observation_space, input["image"] if bare else input, self.device)
        encoded = torch.tanh(self.encoder(seen.to(self.encoder.weight.dtype)))
        total = (self.initial_state(len(encoded)) if state_in is None else state_in)["sum"]
        kept = torch.logical_not(input["first"]).to(encoded.dtype).unsqueeze(-1)
        latents = []
        for t in range(encoded.shape[1]):
            total = 0.5 * total * kept[:, t] + encoded[:, t]
            latents.append(total)
        latent = torch.stack(latents, dim=1)
        result = {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}
        if self.gaussians is not None:
            q_mu, q_log_var, p_mu, p_log_var = self.gaussians(latent).chunk(4, dim=-1)
            result["posterior_dist"] = {"mu": q_mu, "log_var": q_log_var}
            result["prior_dist"] = {"mu": p_mu, "log_var": p_log_var}
        return result, {"sum": total}


class TinyObjective(ObjectiveCallback):
    """The mean negative log-likelihood of the actions of valid frames."""

    mean_over = "frames"

    def __call__(
        self, batch: dict[str, Any], batch_idx: int, step_name: str, latents: dict[str, Any], mine_policy: MinePolicy
    ) -> dict[str, torch.Tensor]:
        """Compute ``loss``."""
        logp = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        mask = batch.get("mask", torch.ones_like(logp, dtype=torch.bool))
        return {"loss": -logp.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)}


def _width(space: gymnasium.Space[Any]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(map(_width, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return sum(map(_width, space.spaces))
    return int(np.prod(space.shape)) if space.shape else 1


def _numbers(space: gymnasium.Space[Any], value: Any, device: torch.device) -> torch.Tensor:
    """An observation's parts side by side, (B, T, width); text counts by its length."""
    if isinstance(space, spaces.Dict):
        return torch.cat([_numbers(part, value[key], device) for key, part in space.spaces.items()], dim=-1)
    if isinstance(space, spaces.Tuple):
        return torch.cat([_numbers(part, value[i], device) for i, part in enumerate(space.spaces)], dim=-1)
    if isinstance(value, list):
        lengths = torch.tensor([[float(len(text)) for text in row] for row in value], device=device)
        return lengths.unsqueeze(-1) / 10
    numbers: torch.Tensor = value.flatten(2) if value.dim() > 2 else value.unsqueeze(-1)
    return numbers.float() / 255 if value.dtype == torch.uint8 else numbers.float()


def tiny_batch(
    batch_size: int = 3,
    length: int = 4,
    action_space: gymnasium.Space[Any] | None = None,
    seed: int = 0,
    start: int = 0,
    observation_space: gymnasium.Space[Any] | None = None,
) -> dict[str, Any]:
    """A batch that :class:`TinyPolicy` reads: one window of each of ``batch_size`` episodes.

    Args:
        batch_size: number of rows B.
        length: window length T.
        action_space: space of ``agent_action``; Discrete(5) by default. Dict spaces may be nested;
            MineStudio's is ``mscore.minecraft_action_space()``.
        seed: of observations and actions.
        start: timestamp of the first step; 0 begins the episodes.
        observation_space: what is seen: a Dict space's parts by name, another space as ``image``; by
            default ``image`` (B, T, 4) float32.
    """
    space = tiny_action_space() if action_space is None else action_space
    first = torch.zeros(batch_size, length, dtype=torch.bool)
    first[:, 0] = start == 0
    if observation_space is None:
        seen = {"image": torch.randn(batch_size, length, 4, generator=torch.Generator().manual_seed(seed))}
    else:
        sampled = _sampled(observation_space, batch_size, length, seed)
        seen = sampled if isinstance(observation_space, spaces.Dict) else {"image": sampled}
    return {
        **seen,
        "agent_action": _sampled(space, batch_size, length, seed),
        "mask": torch.ones(batch_size, length, dtype=torch.bool),
        "first": first,
        "timestamp": torch.arange(start, start + length).repeat(batch_size, 1),
        "episode": [f"episode-{row}" for row in range(batch_size)],
    }


def _sampled(space: gymnasium.Space[Any], batch_size: int, length: int, seed: int) -> Any:
    space.seed(seed)
    return _stack([[space.sample() for _ in range(length)] for _ in range(batch_size)])


def _stack(rows: list[list[Any]]) -> Any:
    sample = rows[0][0]
    if isinstance(sample, dict):
        return {key: _stack([[step[key] for step in row] for row in rows]) for key in sample}
    if isinstance(sample, tuple):
        return tuple(_stack([[step[i] for step in row] for row in rows]) for i in range(len(sample)))
    if isinstance(sample, str):
        return [[str(step) for step in row] for row in rows]
    return torch.stack([torch.stack([torch.as_tensor(step) for step in row]) for row in rows])


class _TinyEpisodes(WindowDataset):
    """Episodes of random observations and actions, the same in every process."""

    def __init__(self, lengths: list[int], window: int, space: gymnasium.Space[Any], seed: int) -> None:
        super().__init__([f"episode-{seed}-{index}" for index in range(len(lengths))], lengths, window)
        self._frames = [tiny_batch(1, length, space, seed + index) for index, length in enumerate(lengths)]

    def read(self, episode: int, start: int, stop: int) -> dict[str, Any]:
        whole = self._frames[episode]
        return {key: _cut(whole[key], start, stop) for key in ("image", "agent_action")}


def _cut(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, dict):
        return {key: _cut(part, start, stop) for key, part in value.items()}
    return value[0, start:stop].numpy()


class TinyDataModule(ResumableDataModule):
    """Six short episodes to train on and two to validate with, as windows that :class:`TinyPolicy` reads.

    Args:
        batch_size: rows of a batch.
        window: frames of a window.
        seed: of the episodes and of their order.
        action_space: space of the actions; Discrete(5) by default.
    """

    def __init__(
        self, batch_size: int = 2, window: int = 3, seed: int = 0, *, action_space: gymnasium.Space[Any] | None = None
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.window = window
        self.seed = seed
        self.observation_space: gymnasium.Space[Any] = OBSERVATIONS
        self.action_space = tiny_action_space() if action_space is None else action_space

    def setup(self, stage: str | None = None) -> None:
        """Make the episodes."""
        self.train_set = _TinyEpisodes([7, 5, 9, 4, 8, 6], self.window, self.action_space, 100 * self.seed)
        self.val_set = _TinyEpisodes([5, 7], self.window, self.action_space, 100 * self.seed + 50)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled training windows."""
        return self.training_loader(self.train_set, batch_size=self.batch_size, seed=self.seed)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Validation windows in order."""
        return self.validation_loader(self.val_set, batch_size=self.batch_size)


class _Guessing(gymnasium.Env[Any, Any]):
    """Five steps; an action is right if it is the observation's largest entry."""

    observation_space = OBSERVATIONS

    def __init__(self) -> None:
        self.action_space = tiny_action_space()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._left, self._right = 5, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = int(action) == self.answer
        self._left, self._right = self._left - 1, self._right + right
        over = self._left == 0
        return self._observe(), float(right), over, False, {"success": self._right == 5} if over else {}

    def _observe(self) -> Any:
        observation = self.np_random.standard_normal(4).astype(np.float32)
        self.answer = int(observation.argmax())
        return observation


class TinyEnvironment(Environment):
    """A guessing game of five steps, in which an expert is always right."""

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment."""
        return _Guessing()

    def expert(self, env: gymnasium.Env[Any, Any]) -> Any:
        """Names the largest entry of each observation."""
        return lambda observation: int(np.argmax(observation))

"""Action heads: a distribution over a gymnasium action space, from a latent.

A head's ``forward`` turns latents (B, T, hiddim) into ``pi_logits``, always float32, on which the other
methods work; so an objective needs the logits and the head, never the latent. Shapes below write (B, T)
for any leading dimensions.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import nn

from mscore.errors import MscoreError

Logits = Any
"""What a head's ``forward`` returns: a tensor, or a dict of tensors for a Dict space."""

MASKED_LOGIT = -100.0
"""Logit of an action that a mask forbids, as in VPT."""

PADDED_LOGIT = -1e9
"""Logit of an entry that exists only because a MultiDiscrete's components differ in size. Finite, so
that 0 * log 0 stays 0 in entropies and divergences."""


class ActionHead(nn.Module, ABC):
    """A distribution over an action space."""

    space: gymnasium.Space[Any]

    @abstractmethod
    def forward(self, latent: torch.Tensor, mask: Any = None) -> Logits:
        """Latents (B, T, hiddim) to logits; ``mask`` (bool, shaped as the logits) forbids actions."""

    @abstractmethod
    def logprob(self, action: Any, logits: Logits, return_dict: bool = False) -> Any:
        """Log-probability (density, for a Box) of actions: (B, T).

        Args:
            action: actions as the space shapes them, behind (B, T).
            logits: what ``forward`` returned.
            return_dict: for a Dict space, one (B, T) per key instead of their sum.

        Raises:
            MscoreError: actions do not have the space's shape, or one lies outside it (the latter is
                checked where that costs no device sync).
        """

    @abstractmethod
    def entropy(self, logits: Logits, return_dict: bool = False) -> Any:
        """Entropy in nats: (B, T), or one per key of a Dict space."""

    @abstractmethod
    def sample(self, logits: Logits, deterministic: bool = False) -> Any:
        """Draw actions, shaped as the space shapes them, behind (B, T).

        Args:
            logits: what ``forward`` returned.
            deterministic: the mode instead of a sample.
        """

    @abstractmethod
    def kl_divergence(self, logits_q: Logits, logits_p: Logits) -> torch.Tensor:
        """KL(q || p) in nats: (B, T, 1), as VPT's heads shape it."""

    def _refuse_shape(self, action: torch.Tensor, expected: torch.Size) -> None:
        """Broadcasting would make wrong numbers of a forgotten or an additional dimension."""
        if action.shape != expected:
            raise MscoreError(
                f"actions of shape {tuple(action.shape)} do not fit the action space {self.space}: "
                f"expected {tuple(expected)}"
            )


class CategoricalHead(ActionHead):
    """Independent categorical distributions: Discrete and MultiDiscrete spaces.

    The logits are log-probabilities at the head's temperature: (B, T, n) for Discrete(n), else
    (B, T, *shape, max n). Sampling uses the Gumbel trick, or nucleus sampling (Holtzman et al. 2020)
    where ``nucleus_prob`` is given; ``logprob`` and ``entropy`` are of the full distribution.

    Args:
        hiddim: width of the latents.
        space: the action space.
        temperature: the logits are divided by it.
        nucleus_prob: sample only from the smallest set of actions whose probability reaches it.
    """

    valid: torch.Tensor | None
    """Which entries exist, where the components differ in size."""
    offset: torch.Tensor | None
    """The space's ``start``, where it is not 0."""

    def __init__(
        self,
        hiddim: int,
        space: spaces.Discrete | spaces.MultiDiscrete,
        temperature: float = 1.0,
        nucleus_prob: float | None = None,
    ) -> None:
        super().__init__()
        sizes = torch.as_tensor(int(space.n) if isinstance(space, spaces.Discrete) else space.nvec)
        start = torch.as_tensor(int(space.start) if isinstance(space, spaces.Discrete) else space.start)
        self.shape = tuple(sizes.shape)
        self.size = int(sizes.max())
        self.sizes = sizes
        self.temperature = temperature
        self.nucleus_prob = nucleus_prob
        self.space = space
        self.linear_layer = nn.Linear(hiddim, math.prod(self.shape) * self.size)
        valid = torch.arange(self.size) < sizes.unsqueeze(-1)
        self.register_buffer("valid", None if bool(valid.all()) else valid, persistent=False)
        self.register_buffer("offset", start if bool(start.any()) else None, persistent=False)

    def forward(self, latent: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Latents (B, T, hiddim) to float32 log-probabilities (B, T, *shape, n)."""
        logits = self.linear_layer(latent).unflatten(-1, (*self.shape, self.size)).float()
        if self.temperature != 1.0:
            logits = logits / self.temperature
        if mask is not None:
            logits = logits.masked_fill(~mask, MASKED_LOGIT)
        if self.valid is not None:
            logits = logits.masked_fill(~self.valid, PADDED_LOGIT)
        return F.log_softmax(logits, dim=-1)

    def logprob(self, action: torch.Tensor, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Log-probability of actions (B, T, *shape) of integers: (B, T)."""
        self._refuse_shape(action, logits.shape[:-1])
        index = action.long() if self.offset is None else action.long() - self.offset
        if index.device.type == "cpu":
            self._refuse_outside(index)
        chosen = logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        return self._sum(chosen)

    def entropy(self, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Entropy in nats: (B, T)."""
        terms = logits.exp()
        # In place where no gradient needs the probabilities: the copy is a third of the cost at 8641 actions.
        terms = terms * logits if logits.requires_grad else terms.mul_(logits)
        return self._sum(-terms.sum(-1))

    def sample(self, logits: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Actions (B, T, *shape) int64."""
        index = self._sample_index(logits, deterministic)
        return index if self.offset is None else index + self.offset

    def _sample_index(self, logits: torch.Tensor, deterministic: bool) -> torch.Tensor:
        if deterministic:
            return logits.argmax(-1)
        if self.nucleus_prob is None:
            return _gumbel_argmax(logits)
        ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        # The sum up to the entry before: the entry that crosses the threshold is kept, and always the first.
        before = F.pad(ordered.cumsum(-1)[..., :-1], (1, 0))
        kept = ordered.log().masked_fill(before >= self.nucleus_prob, -torch.inf)
        return order.gather(-1, _gumbel_argmax(kept).unsqueeze(-1)).squeeze(-1)

    def kl_divergence(self, logits_q: torch.Tensor, logits_p: torch.Tensor) -> torch.Tensor:
        """KL(q || p) in nats: (B, T, 1)."""
        return self._sum((logits_q.exp() * (logits_q - logits_p)).sum(-1)).unsqueeze(-1)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Add up the components of a MultiDiscrete."""
        return values.flatten(-len(self.shape)).sum(-1) if self.shape else values

    def _refuse_outside(self, index: torch.Tensor) -> None:
        if index.numel() == 0:
            return
        if self.valid is None:
            low, high = index.aminmax()
            if low >= 0 and high < self.size:
                return
        outside = (index < 0) | (index >= self.sizes)
        if outside.any():
            wrong = (index if self.offset is None else index + self.offset)[outside][0].item()
            raise MscoreError(
                f"an action of {wrong} lies outside the action space {self.space}: check the data's actions"
            )


class BernoulliHead(ActionHead):
    """Independent coins: MultiBinary spaces. The logits (B, T, *shape) are log-odds.

    Args:
        hiddim: width of the latents.
        space: the action space.
        temperature: the log-odds are divided by it.
    """

    def __init__(self, hiddim: int, space: spaces.MultiBinary, temperature: float = 1.0) -> None:
        super().__init__()
        self.shape = tuple(space.shape)
        self.temperature = temperature
        self.space = space
        self.linear_layer = nn.Linear(hiddim, math.prod(self.shape))

    def forward(self, latent: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Latents (B, T, hiddim) to float32 log-odds (B, T, *shape); a mask keeps a coin at 0."""
        logits: torch.Tensor = self.linear_layer(latent).unflatten(-1, self.shape) / self.temperature
        logits = logits.float()
        return logits if mask is None else logits.masked_fill(~mask, MASKED_LOGIT)

    def logprob(self, action: torch.Tensor, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Log-probability of actions (B, T, *shape) of 0 and 1: (B, T)."""
        self._refuse_shape(action, logits.shape)
        if action.device.type == "cpu" and bool(((action != 0) & (action != 1)).any()):
            raise MscoreError(f"an action outside {{0, 1}} does not fit the action space {self.space}")
        target = action.to(logits.dtype)
        return self._sum(-F.binary_cross_entropy_with_logits(logits, target, reduction="none"))

    def entropy(self, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Entropy in nats: (B, T)."""
        return self._sum(F.softplus(logits) - logits * logits.sigmoid())

    def sample(self, logits: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Actions (B, T, *shape) int8."""
        probability = logits.sigmoid()
        heads = probability > 0.5 if deterministic else torch.rand_like(probability) < probability
        return heads.to(torch.int8)

    def kl_divergence(self, logits_q: torch.Tensor, logits_p: torch.Tensor) -> torch.Tensor:
        """KL(q || p) in nats: (B, T, 1)."""
        difference = F.softplus(logits_p) - F.softplus(logits_q)
        return self._sum(difference + logits_q.sigmoid() * (logits_q - logits_p)).unsqueeze(-1)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.flatten(-len(self.shape)).sum(-1)


class GaussianHead(ActionHead):
    """A diagonal Gaussian: Box spaces of floats.

    The logits (B, T, *shape, 2) hold the mean and the logarithm of the standard deviation, which is a
    parameter of its own, independent of the latent. Samples may lie beyond the space's bounds:
    ``mscore`` clips what an environment receives, while log-probabilities are of the unclipped action.

    Args:
        hiddim: width of the latents.
        space: the action space.
        temperature: scales the standard deviation.
    """

    LOG_STD_RANGE = (-5.0, 2.0)
    """Keeps the density finite when demonstrations are deterministic."""

    def __init__(self, hiddim: int, space: spaces.Box, temperature: float = 1.0) -> None:
        super().__init__()
        self.shape = tuple(space.shape)
        self.space = space
        self.log_temperature = math.log(temperature)
        self.linear_layer = nn.Linear(hiddim, math.prod(self.shape))
        self.log_std = nn.Parameter(torch.zeros(self.shape))

    def forward(self, latent: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Latents (B, T, hiddim) to float32 (B, T, *shape, 2): mean, log standard deviation."""
        if mask is not None:
            raise MscoreError("a Box action space cannot be masked")
        mean = self.linear_layer(latent)
        mean = mean.unflatten(-1, self.shape) if self.shape else mean[..., 0]
        # Clamped in the forward pass alone: a parameter beyond the range must still find its way back.
        clamped = self.log_std + (self.log_std.clamp(*self.LOG_STD_RANGE) - self.log_std).detach()
        log_std = clamped + self.log_temperature
        return torch.stack([mean.float(), log_std.float().expand_as(mean)], dim=-1)

    def logprob(self, action: torch.Tensor, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Log-density of actions (B, T, *shape): (B, T)."""
        mean, log_std = logits.unbind(-1)
        self._refuse_shape(action, mean.shape)
        if action.device.type == "cpu" and not bool(torch.isfinite(action).all()):
            raise MscoreError("the batch's actions hold NaN or infinity: check the data")
        scaled = (action.float() - mean) * (-log_std).exp()
        return self._sum(-0.5 * scaled.square() - log_std - 0.5 * math.log(2 * math.pi))

    def entropy(self, logits: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Differential entropy in nats: (B, T)."""
        return self._sum(logits[..., 1] + 0.5 * math.log(2 * math.pi * math.e))

    def sample(self, logits: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Actions (B, T, *shape) float32."""
        mean, log_std = logits.unbind(-1)
        return mean if deterministic else mean + log_std.exp() * torch.randn_like(mean)

    def kl_divergence(self, logits_q: torch.Tensor, logits_p: torch.Tensor) -> torch.Tensor:
        """KL(q || p) in nats: (B, T, 1)."""
        (mean_q, log_q), (mean_p, log_p) = logits_q.unbind(-1), logits_p.unbind(-1)
        ratio = (2 * (log_q - log_p)).exp() + ((mean_q - mean_p) * (-log_p).exp()).square()
        return self._sum(0.5 * (ratio - 1) + log_p - log_q).unsqueeze(-1)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.flatten(-len(self.shape)).sum(-1) if self.shape else values


class DictHead(ActionHead):
    """One head per key of a Dict space, independent given the latent, in the space's (sorted) order.

    Args:
        hiddim: width of the latents.
        space: the action space.
        temperature: passed to every head.
        nucleus_prob: passed to every categorical head.
    """

    def __init__(
        self, hiddim: int, space: spaces.Dict, temperature: float = 1.0, nucleus_prob: float | None = None
    ) -> None:
        super().__init__()
        self.space = space
        self._module_names: dict[str, str] = {}
        for key, part in space.spaces.items():
            # A key such as "hotbar.1" or "forward" cannot name a sub-module as it is.
            name = key.replace(".", "__")
            while hasattr(self, name):
                name += "_"
            self._module_names[key] = name
            self.add_module(name, make_action_head(part, hiddim, temperature, nucleus_prob))

    def items(self) -> list[tuple[str, ActionHead]]:
        """Keys of the space with their heads, in order."""
        return [(key, getattr(self, name)) for key, name in self._module_names.items()]

    def forward(self, latent: torch.Tensor, mask: dict[str, torch.Tensor] | None = None) -> Logits:
        """Latents (B, T, hiddim) to one tensor of logits per key."""
        masks = mask or {}
        return {key: head(latent, masks.get(key)) for key, head in self.items()}

    def logprob(self, action: Any, logits: Logits, return_dict: bool = False) -> Any:
        """Log-probability: (B, T), or one per key."""
        terms = {}
        for key, head in self.items():
            if key not in action:
                raise MscoreError(f"the batch's actions lack the key {key!r} of the action space")
            try:
                terms[key] = head.logprob(action[key], logits[key])
            except MscoreError as error:
                raise MscoreError(f"agent_action[{key!r}]: {error}") from None
        return terms if return_dict else sum(terms.values())

    def entropy(self, logits: Logits, return_dict: bool = False) -> Any:
        """Entropy in nats: (B, T), or one per key."""
        terms = {key: head.entropy(logits[key]) for key, head in self.items()}
        return terms if return_dict else sum(terms.values())

    def sample(self, logits: Logits, deterministic: bool = False) -> Any:
        """Actions by key, drawn in the space's order."""
        return {key: head.sample(logits[key], deterministic) for key, head in self.items()}

    def kl_divergence(self, logits_q: Logits, logits_p: Logits) -> torch.Tensor:
        """KL(q || p) in nats: (B, T, 1)."""
        terms = [head.kl_divergence(logits_q[key], logits_p[key]) for key, head in self.items()]
        return torch.stack(terms).sum(0)


def make_action_head(
    space: gymnasium.Space[Any],
    hiddim: int,
    temperature: float = 1.0,
    nucleus_prob: float | None = None,
) -> ActionHead:
    """The action head for a space.

    Args:
        space: Discrete, MultiDiscrete, MultiBinary, Box of floats, or Dict of these.
        hiddim: width of the latents that it reads.
        temperature: the logits are divided by it (a Gaussian's deviation is multiplied by it).
        nucleus_prob: for categorical parts, sample only from the smallest set of actions whose
            probability reaches it.

    Raises:
        MscoreError: for another space.
    """
    match space:
        case spaces.Discrete() | spaces.MultiDiscrete():
            return CategoricalHead(hiddim, space, temperature, nucleus_prob)
        case spaces.MultiBinary():
            return BernoulliHead(hiddim, space, temperature)
        case spaces.Box() if space.dtype is not None and space.dtype.kind == "f":
            return GaussianHead(hiddim, space, temperature)
        case spaces.Dict():
            return DictHead(hiddim, space, temperature, nucleus_prob)
    raise MscoreError(
        f"no action head for the space {space}; supported are Discrete, MultiDiscrete, MultiBinary, "
        "Box of floats, and Dict of these"
    )


def _gumbel_argmax(logits: torch.Tensor) -> torch.Tensor:
    """A sample from softmax(logits): the place of the greatest logit plus Gumbel noise."""
    # In place: for some rows of few actions the calls are the cost.
    noise = torch.rand_like(logits).log_().neg_().log_()
    return (logits - noise).argmax(-1)

"""Fragments: what a policy saw, did and got in consecutive steps of some environments."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mscore import tree_map
from mscore_plugin_ppo.rollouts.advantages import Floats, Steps


@dataclass(frozen=True)
class Episode:
    """How an episode that ended in a fragment went."""

    episode_return: float
    """Sum of the rewards."""
    length: int
    success: bool | None
    """What the environment calls a success; None where it has no such notion."""


@dataclass
class Fragments:
    """One fragment of each of B environments of one worker: T steps that follow one another.

    A fragment begins wherever its environment was and may contain ends of episodes. Tensors of B rows and
    T steps are written (B, T).

    Attributes:
        observation: the observation space's parts by name (B, T, …), text as B lists of T strings.
        action: as the action space shapes it, behind (B, T).
        first: (B, T) bool, an episode begins with this step's observation.
        valid: (B, T) bool; False where no step was taken because the environment was being replaced.
        state: the policy's memory before the first step, a nest of tensors (B, …).
        logp: (B, T) log-probability of each action under the policy that took it.
        steps: rewards, values, ends and final values, as (T, B) arrays.
        next_observation: what follows the last step, as a policy's input (B, 1, …).
        final_observations: the last observation of each trajectory that was truncated, by (row, step).
        episodes: those that ended.
        worker: who collected them.
        number: how many fragments the worker collected before; consecutive numbers follow one another.
        session: the training that the policy belongs to.
        version: of the policy that acted.
    """

    observation: dict[str, Any]
    action: Any
    first: torch.Tensor
    valid: torch.Tensor
    state: Any
    logp: torch.Tensor
    steps: Steps
    next_observation: dict[str, Any]
    final_observations: dict[tuple[int, int], Any]
    episodes: list[Episode]
    worker: str
    number: int
    session: str
    version: int
    uses: int = field(default=0)
    """How often they were learned from."""
    prepared: dict[str, Any] | None = field(default=None, repr=False)
    """The batch as the objectives completed it; each reads the fragments once, however often they are used."""

    def __len__(self) -> int:
        return self.first.shape[0]

    @property
    def length(self) -> int:
        """T."""
        return self.first.shape[1]

    @property
    def taken(self) -> int:
        """Steps that were really taken."""
        return int(self.steps.valid.sum())

    def batch(self) -> dict[str, Any]:
        """The fragments as a batch of the contract: ``agent_action``, ``mask``, ``first``, ``timestamp``, ``episode``.

        A row is one environment from batch to batch: ``episode`` names the environment, ``timestamp`` counts
        its steps, ``first`` says where episodes begin. Whoever carries a memory by these carries it as the
        acting policy's was.
        """
        begin = self.number * self.length
        timestamp = torch.arange(begin, begin + self.length)
        return {
            **self.observation,
            "agent_action": self.action,
            "mask": self.valid,
            "first": self.first,
            "timestamp": timestamp.expand(len(self), -1),
            "episode": [f"{self.worker}/{row}" for row in range(len(self))],
        }


def follows(later: Fragments, earlier: Fragments) -> bool:
    """Whether fragments begin where others end."""
    return later.worker == earlier.worker and later.number == earlier.number + 1 and len(later) == len(earlier)


def concatenated(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batches below one another: tensors along the rows, lists appended."""
    if len(batches) == 1:
        return dict(batches[0])
    return {key: _joined([batch[key] for batch in batches]) for key in batches[0]}


def joined_states(states: Sequence[Any]) -> Any:
    """States (B, …) of several fragments below one another."""
    return states[0] if len(states) == 1 else tree_map(lambda *leaves: torch.cat(leaves), states[0], *states[1:])


def _joined(values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    return tree_map(lambda *leaves: torch.cat(leaves), values[0], *values[1:])


def rows_first(array: Floats) -> torch.Tensor:
    """(T, B) to a tensor (B, T) of its own: what came from elsewhere must not be written to."""
    return torch.tensor(array.T)

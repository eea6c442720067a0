"""A policy with spaces that it fits, and the windows that it is read."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from mscore.testing.checks import CheckFailed, CheckSkipped, Unusable
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny import OBSERVATIONS, tiny_action_space, tiny_batch
from mscore.testing.trees import cut, per_frame

_NOT_SEEN = ("agent_action", "mask", "timestamp", "episode")


def candidate_observations() -> list[gymnasium.Space[Any]]:
    """Observation spaces that are tried in turn: a vector, pictures, and a picture with text."""

    def picture(size: int) -> spaces.Box:
        return spaces.Box(0, 255, (size, size, 3), np.uint8)

    return [OBSERVATIONS, picture(64), picture(128), spaces.Dict({"image": picture(64), "text": spaces.Text(12)})]


class PolicyCase:
    """A policy's surroundings in the checks: the first observation space that it can read decides.

    Attributes:
        policy: in evaluation mode.

    Raises:
        Unusable: it can read none of them.
    """

    def __init__(self, subject: ComponentSubject) -> None:
        self.subject = subject
        sample = subject.sample
        named = {parameter.name for parameter in subject.schema.supplied}
        self.action_space = sample.action_space or (tiny_action_space() if "action_space" in named else None)
        errors: list[str] = []
        first: Exception | None = None
        given = sample.observation_space
        for space in candidate_observations() if given is None else [given]:
            self.observation_space = space
            try:
                self.policy = self.make()
                with torch.no_grad():
                    self.policy(self.window(2, 3), None)
            except CheckSkipped:
                raise
            except Exception as error:
                text = " ".join(str(error).split()) or "no message"
                errors.append(f"{type(error).__name__}: {text} (with {space})" if given is None else text)
                first = first or error
            else:
                return
        if isinstance(first, Unusable) and "observation_space" not in named:
            raise first
        raise Unusable("forward", f"it reads no observation: {errors[0]}; Sample(observation_space=…) gives another")

    def make(self, seed: int = 0) -> Any:
        """A fresh policy in evaluation mode."""
        torch.manual_seed(seed)
        supplied = {} if self.action_space is None else {"action_space": self.action_space}
        policy = self.subject.build(observation_space=self.observation_space, **supplied)
        return policy.eval()

    def window(self, rows: int, steps: int, seed: int = 0) -> dict[str, Any]:
        """Observations and ``first`` of windows at the start of their episodes."""
        batch = tiny_batch(rows, steps, self.action_space, seed, observation_space=self.observation_space)
        return {key: value for key, value in batch.items() if key not in _NOT_SEEN}

    def batch(self, rows: int, steps: int) -> dict[str, Any]:
        """The same windows with actions of the policy's own space and everything else of a batch."""
        return tiny_batch(rows, steps, self.policy.action_space, observation_space=self.observation_space)

    @torch.no_grad()
    def read(self, window: dict[str, Any], state: Any = None, policy: Any = None) -> tuple[Any, Any]:
        """What the policy returns for a window, checked for its form.

        Raises:
            Unusable: it is not a pair of latents and state.
        """
        policy = policy or self.policy
        torch.manual_seed(3)
        result: tuple[Any, Any] = policy(window, state)
        if not isinstance(result, tuple) or len(result) != 2:
            raise Unusable("forward", f"forward returned a {type(result).__name__}, expected (latents, state)")
        return result

    def frames(self, window: dict[str, Any], state: Any = None, policy: Any = None) -> dict[str, torch.Tensor]:
        """The latents of each frame by path."""
        latents, _ = self.read(window, state, policy)
        return per_frame(latents, *window["first"].shape)

    def piecewise(self, window: dict[str, Any], steps: list[int]) -> dict[str, torch.Tensor]:
        """The latents of each frame where the window is read in pieces, the state handed on."""
        pieces: list[dict[str, torch.Tensor]] = []
        state, start = None, 0
        for length in steps:
            piece = cut(window, steps=slice(start, start + length))
            latents, state = self.read(piece, state)
            pieces.append(per_frame(latents, *piece["first"].shape))
            start += length
        return {
            path: torch.cat([piece[path] for piece in pieces], dim=1)
            for path in pieces[0]
            if all(path in piece for piece in pieces)
        }


def same_frames(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str) -> None:
    """Fail if two readings of the same frames differ beyond what another order of additions can do.

    Raises:
        CheckFailed: with the latent, the first row and step, and by how much.
    """
    for path in sorted(actual.keys() & expected.keys()):
        one, other = actual[path].double(), expected[path].double()
        if one.shape != other.shape:
            raise CheckFailed(f"{what}: {path} has the shape {tuple(one.shape)} and {tuple(other.shape)}")
        gap = (one - other).abs() - (1e-4 + 1e-3 * other.abs())
        wrong = (gap > 0).flatten(2).any(-1) if gap.dim() > 2 else gap > 0
        if wrong.any():
            row, step = (int(index) for index in wrong.nonzero()[0])
            most = (one - other).abs().max().item()
            raise CheckFailed(f"{what}: {path} differs by up to {most:.3g}, first in row {row} at step {step}")

"""Policies with one mistake each; a class's name says in which check."""

from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from mscore import MinePolicy, tree_detach
from mscore.testing import TinyPolicy


class Right(TinyPolicy):
    """The tiny policy.

    Args:
        action_space: injected.
    """

    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space)


class Replaced(Right):
    """Lets a subclass change what is read and returned."""

    def forward(self, input, state_in=None):
        input, state_in = self.before(dict(input), state_in)
        latents, state = super().forward(input, state_in)
        return self.after(input, latents, state)

    def before(self, input, state):
        return input, state

    def after(self, input, latents, state):
        return latents, state


class ForwardWrong(Replaced):
    def after(self, input, latents, state):
        return latents


class LatentsWrong(Right):
    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space=action_space)
        self.provides_latents = frozenset({"pi_logits", "imagination"})


class InitialStateWrong(Right):
    def initial_state(self, batch_size=None):
        return {
            **super().initial_state(batch_size),
            "more": torch.zeros(*([batch_size] if batch_size else []), 2, device=self.device),
        }


class NoneIsInitialWrong(Replaced):
    def before(self, input, state):
        fresh = {"sum": torch.ones(len(input["first"]), self.hiddim)}
        return input, fresh if state is None else state


class AnySizeWrong(Replaced):
    def before(self, input, state):
        assert tuple(input["first"].shape) != (1, 5)
        return input, state


class StepByStepWrong(Replaced):
    def after(self, input, latents, state):
        return latents, {"sum": 0.5 * state["sum"]}


class RowResetsWrong(Replaced):
    def before(self, input, state):
        first = input["first"].clone()
        if state is not None:
            first[:, 0] = False
        return {**input, "first": first}, state


class FirstMidWindowWrong(Replaced):
    def before(self, input, state):
        first = input["first"].clone()
        first[:, 1:] = False
        return {**input, "first": first}, state


class DeterministicWrong(Replaced):
    def after(self, input, latents, state):
        return {**latents, "vpred": latents["vpred"] + 1e-7 * torch.randn(1)}, state


class MovesWrong(Right):
    def initial_state(self, batch_size=None):
        return {"sum": torch.zeros(*([batch_size] if batch_size else []), self.hiddim)}


class ActingWrong(Right):
    def get_action(self, input, state_in=None, deterministic=False, input_shape="BT*"):
        action, state = super().get_action(input, state_in, deterministic, input_shape)
        return action + 100, state


class ActionSpacesWrong(Right):
    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space=spaces.Discrete(5))


class TrainsWrong(Replaced):
    def after(self, input, latents, state):
        return tree_detach(latents), state


class EveryParameterLearnsWrong(Right):
    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space=action_space)
        self.forgotten = nn.Linear(2, 2)


class Bf16AutocastWrong(Right):
    def forward(self, input, state_in=None):
        self.encoder(input["image"]).detach().numpy()
        return super().forward(input, state_in)


class WeightsWrong(Replaced):
    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space=action_space)
        self.register_buffer("scale", torch.rand(1) + 1, persistent=False)

    def after(self, input, latents, state):
        return {**latents, "vpred": latents["vpred"] + self.scale}, state


class PicklableWrong(Right):
    def __init__(self, *, action_space: Any = None) -> None:
        super().__init__(action_space=action_space)
        self.function = lambda x: x


class KeepsNothingWrong(Replaced):
    """Goes on from where it stopped last, whatever state it is given."""

    last = None

    def before(self, input, state):
        return input, state if state is None or self.last is None else self.last

    def after(self, input, latents, state):
        if not input["first"][:, 1:].any() and len(input["first"]) != 1:
            self.last = {"sum": state["sum"][:2].detach()} if len(input["first"]) == 3 else self.last
        return latents, state


class ListState(MinePolicy):
    """MineStudio's form: a list as state, `memory` as the name of the argument, hidden attention to `first`.

    Args:
        width: of the latent.
    """

    def __init__(self, width: int = 6) -> None:
        super().__init__(width)
        self.layer = nn.Linear(4, width)

    def initial_state(self, batch_size=None):
        return [
            torch.zeros(*([batch_size] if batch_size else []), self.hiddim, device=self.device),
            (torch.zeros(*([batch_size] if batch_size else []), 1, device=self.device),),
        ]

    def forward(self, input: dict[str, Any], memory: list[torch.Tensor] | None = None) -> Any:
        total, (count,) = self.initial_state(len(input["image"])) if memory is None else memory
        seen = torch.tanh(self.layer(input["image"]))
        latents = []
        for t in range(seen.shape[1]):
            kept = ~input["first"][:, t, None]
            total, count = total * kept + seen[:, t], count * kept + 1
            latents.append(total / count)
        latent = torch.stack(latents, 1)
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, [total, (count,)]


class KeywordsAndTuple(ListState):
    """The other signature, with further keywords and a tuple as state.

    Args:
        width: of the latent.
    """

    def __init__(self, width: int = 6) -> None:
        super().__init__(width)

    def initial_state(self, batch_size=None):
        return tuple(super().initial_state(batch_size))

    def forward(self, input, state_in, **kwargs):
        latents, state = super().forward(input, state_in)
        return latents, tuple(state)

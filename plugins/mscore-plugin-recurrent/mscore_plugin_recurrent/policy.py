"""The policy ``recurrent``."""

from typing import Annotated, Any

import gymnasium
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import nn

from mscore import MinePolicy, MscoreError
from mscore_plugin_recurrent.encoders import Choices, Numbers, SpatialEncoder, kind_of, leaves
from mscore_plugin_recurrent.memory import Memory
from mscore_plugin_recurrent.text import TextEncoder

TEXT_SIZE = 64
CHOICE_SIZE = 16


class RecurrentPolicy(MinePolicy):
    """A small policy with memory, for any gymnasium observation and action space.

    Every part of the observation has an encoder of its own kind (:func:`~mscore_plugin_recurrent.encoders.kind_of`
    says which): symbolic grids are embedded, pictures go through a small convolutional network, numbers
    through a layer, text through hashed words and a GRU. Text also conditions grids and pictures, by FiLM.
    The encodings are joined and read by a GRU, the memory, from whose output the heads read.

    ``latents`` holds ``pi_logits`` and ``vpred`` (B, T, 1). The state is ``{"memory": (B, hiddim)}``.

    Args:
        hiddim: width of the joined encoding, of the memory and of the latent.
        channels: of the convolutions.
        grid_values: None decides from the space whether integer Boxes (H, W) and (H, W, C) are symbolic
            grids or pictures; 0 makes them pictures; a number makes them grids of symbols below it.
        temperature: the action logits are divided by it before normalization.
        nucleus_prob: sample only from the smallest set of actions whose probability reaches it.
        observation_space: what the environment or the dataset shows (injected).
        action_space: what the policy chooses from (injected); None means MineStudio's Minecraft space.

    Raises:
        MscoreError: the observation space, or a part of it, is not supported.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        hiddim: Annotated[int, Ge(1)] = 128,
        channels: Annotated[int, Ge(2)] = 64,
        grid_values: Annotated[int, Ge(0)] | None = None,
        temperature: Annotated[float, Gt(0)] = 1.0,
        nucleus_prob: Annotated[float, Gt(0), Le(1)] | None = None,
        *,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any] | None = None,
    ) -> None:
        super().__init__(hiddim, action_space, temperature=temperature, nucleus_prob=nucleus_prob)
        self.observation_space = observation_space
        bare = not isinstance(observation_space, gymnasium.spaces.Dict)
        parts = gymnasium.spaces.Dict({"image": observation_space}) if bare else observation_space
        self._kinds = {path: kind_of(space, grid_values) for path, space in leaves(parts)}
        if not self._kinds:
            raise MscoreError(f"the observation space {observation_space} has nothing in it to see")
        condition = TEXT_SIZE * list(self._kinds.values()).count("text")
        self.encoders = nn.ModuleDict()
        self._names: dict[tuple[Any, ...], str] = {}
        width = 0
        for path, space in leaves(parts):
            encoder: nn.Module
            match kind := self._kinds[path]:
                case "grid" | "picture":
                    encoder = SpatialEncoder(space, kind, hiddim, channels, condition, grid_values)
                    width += hiddim
                case "numbers":
                    encoder = Numbers(space, hiddim)
                    width += hiddim
                case "choices":
                    encoder = Choices(space, CHOICE_SIZE)
                    width += CHOICE_SIZE
                case "text":
                    encoder = TextEncoder(TEXT_SIZE)
                    width += TEXT_SIZE
            self._names[path] = _module_name(path, self.encoders)
            self.encoders[self._names[path]] = encoder
        self.join = nn.Linear(width, hiddim)
        self.memory = Memory(hiddim)

    def initial_state(self, batch_size: int | None = None) -> dict[str, torch.Tensor]:
        """Zeros: ``{"memory": (B, hiddim)}``, without the batch dimension for None."""
        shape = (self.hiddim,) if batch_size is None else (batch_size, self.hiddim)
        return {"memory": self.join.weight.new_zeros(shape)}

    def forward(
        self, input: dict[str, Any], state_in: dict[str, torch.Tensor] | None = None
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Read a window.

        Args:
            input: the observation space's parts by name (a bare space's is called ``image``) with leading
                (B, T), text as B lists of T strings; and ``first`` (B, T) bool where episodes start, which
                may be left out where none does.
            state_in: memory before the window; None means initial.

        Returns:
            ``pi_logits`` and ``vpred`` (B, T, 1), and the memory after the window.

        Raises:
            MscoreError: a part of the observation is missing.
        """
        values = {path: _find(input, path) for path in self._kinds}
        batch, steps = _leading(next(iter(values.values())))
        texts = [self._encode_text(path, value) for path, value in values.items() if self._kinds[path] == "text"]
        condition = torch.cat(texts, -1) if texts else None
        encodings = list(texts)
        for path, value in values.items():
            encoder = self.encoders[self._names[path]]
            if self._kinds[path] in ("grid", "picture"):
                encodings.append(encoder(value.flatten(0, 1), condition))
            elif self._kinds[path] != "text":
                encodings.append(encoder(value.flatten(0, 1)))
        joined = F.relu(self.join(torch.cat(encodings, -1))).view(batch, steps, self.hiddim)
        state = self.initial_state(batch) if state_in is None else state_in
        latent, memory = self.memory(joined, state["memory"], input.get("first"))
        latents = {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}
        return latents, {"memory": memory.to(state["memory"].dtype)}

    def _encode_text(self, path: tuple[Any, ...], texts: list[list[str]]) -> torch.Tensor:
        """Encodings of each frame's text, (B * T, size); each different text is encoded once."""
        encodings: torch.Tensor
        encodings, where = self.encoders[self._names[path]](texts)
        return encodings[where]


def _module_name(path: tuple[Any, ...], taken: nn.ModuleDict) -> str:
    """A part's name as a sub-module: dots would split it, and a ModuleDict's own names are taken."""
    name = "/".join(str(step) for step in path).replace(".", "__")
    while hasattr(taken, name):
        name += "_"
    return name


def _find(input: Any, path: tuple[Any, ...]) -> Any:
    value = input
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError):
            name = ".".join(map(str, path))
            raise MscoreError(f"the policy's input lacks the observation {name!r}") from None
    return value


def _leading(value: Any) -> tuple[int, int]:
    """Rows and frames of a window, from any part of it."""
    if isinstance(value, torch.Tensor):
        return value.shape[0], value.shape[1]
    return len(value), len(value[0])

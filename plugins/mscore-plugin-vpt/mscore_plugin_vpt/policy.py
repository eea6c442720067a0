"""The policy ``vpt``."""

import copy
import inspect
import warnings
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import torch
from annotated_types import Gt, Le

from mscore import MscoreError, minecraft_action_space
from mscore_plugin_vpt.network import VPTNetwork, unknown_arguments
from mscore_plugin_vpt.openai_model import read_openai_model
from mscore_plugin_vpt.pretrained import PretrainedPolicy, described_space
from mscore_plugin_vpt.recurrent import RecurrentState
from mscore_plugin_vpt.saved_policy import SavedPolicy, read_saved_policy

DEFAULT_ON_THE_HUB = "CraftJarvis/MineStudio_VPT.rl_for_shoot_animals_2x"
"""What :func:`load_vpt_policy` loads where nothing is named, as in MineStudio."""


class VPTPolicy(PretrainedPolicy):
    """VPT (Baker et al. 2022): a convolutional image trunk and a transformer with memory.

    ``latents`` holds ``pi_logits`` and ``vpred`` (B, T, 1). The state is a flat list, for each block of the
    transformer ``memory_ok`` (B, 1, M) bool, keys and values (B, M, hidsize), where M is
    ``attention_memory_size - timesteps``. Any number of rows and frames can be read, in any order, and
    ``first`` may be true anywhere.

    Args:
        policy_kwargs: of :class:`~mscore_plugin_vpt.VPTNetwork`, under the names of VPT's ``.model`` files.
        action_space: what the policy chooses from (injected); None means MineStudio's Minecraft space.
        temperature: the action logits are divided by it before normalization. VPT's is 2.0.
        nucleus_prob: sample only from the smallest set of actions whose probability reaches it.

    Raises:
        MscoreError: ``policy_kwargs`` has an unknown name, or values that do not fit together.

    Attributes:
        net: the network between pictures and heads.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        policy_kwargs: dict[str, Any],
        action_space: gymnasium.Space[Any] | None = None,
        temperature: Annotated[float, Gt(0)] = 1.0,
        nucleus_prob: Annotated[float, Gt(0), Le(1)] | None = None,
    ) -> None:
        unknown = unknown_arguments(policy_kwargs, _network_arguments())
        if unknown:
            raise MscoreError(f"policy_kwargs has what VPT's network does not know: {'; '.join(unknown)}")
        try:
            net = VPTNetwork(**policy_kwargs)
        except TypeError as error:
            raise MscoreError(f"policy_kwargs does not fit VPT's network: {error}") from error
        super().__init__(net.final_ln.normalized_shape[0], action_space, temperature, nucleus_prob)
        self.net = net
        self.policy_kwargs = copy.deepcopy(dict(policy_kwargs))
        self.temperature = temperature
        self.nucleus_prob = nucleus_prob

    def initial_state(self, batch_size: int | None = None) -> RecurrentState:
        """Memory of nothing, on the policy's device; None leaves the batch dimension out."""
        return self.net.initial_state(batch_size)

    def forward(
        self,
        input: dict[str, Any],
        state_in: RecurrentState | None = None,
        context: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], RecurrentState]:
        """Read a window.

        Args:
            input: ``image`` (B, T, H, W, 3), pixels from 0 to 255 of any type; ``first`` (B, T) bool where
                episodes start, which may be left out where none does.
            state_in: memory before the window; None means initial.
            context: may hold ``first`` in place of ``input``, as MineStudio's trainers pass it.

        Returns:
            ``pi_logits`` and ``vpred`` (B, T, 1), and the memory after the window.

        Raises:
            MscoreError: there is no ``image``, or it is of another size.
        """
        if "image" not in input:
            raise MscoreError(f"the policy's input lacks 'image'; it has {', '.join(map(repr, input)) or 'nothing'}")
        first: torch.Tensor | None = input.get("first")
        if first is None and context is not None:
            first = context.get("first")
        state = self.initial_state(input["image"].shape[0]) if state_in is None else state_in
        (pi_latent, vf_latent), state_out = self.net(input, state, {"first": first})
        return {"pi_logits": self.pi_head(pi_latent), "vpred": self.value_head(vf_latent)}, state_out

    def export_config(self) -> dict[str, Any]:
        """Constructor arguments as JSON holds them."""
        return {
            "policy_kwargs": self.policy_kwargs,
            "action_space": described_space(self.action_space, minecraft_action_space()),
            "temperature": self.temperature,
            "nucleus_prob": self.nucleus_prob,
        }


def load_vpt_policy(
    model_path: str | Path | None = None, weights_path: str | Path | None = None, *, strict: bool = True
) -> VPTPolicy:
    """Load a VPT policy from files that people have.

    Args:
        model_path: how the policy is built: OpenAI's ``.model``; or what :meth:`VPTPolicy.from_pretrained`
            reads, which brings weights of its own. None means ``weights_path``, or without that the policy
            that MineStudio loads, from the Hugging Face hub.
        weights_path: OpenAI's ``.weights``, a Lightning checkpoint (plain or ``-EMA``), or what else
            :func:`~mscore_plugin_vpt.read_saved_policy` reads. None keeps the weights of ``model_path``; a
            ``.model`` has none, and the policy begins at random.
        strict: False warns of tensors that are missing or superfluous instead of refusing them.

    Returns:
        The policy in evaluation mode.

    Raises:
        MscoreError: a file cannot be read, or weights and policy do not fit; every tensor is named with
            both shapes.
    """
    if model_path is None:
        return VPTPolicy.from_pretrained(weights_path or DEFAULT_ON_THE_HUB, strict=strict)
    arguments = None
    if Path(model_path).suffix == ".model":
        arguments = _for_the_network(read_openai_model(model_path), model_path)
        if weights_path is None:
            return VPTPolicy(**arguments).eval()
    saved = read_saved_policy(model_path if weights_path is None else weights_path)
    if arguments is None and weights_path is not None:
        arguments = read_saved_policy(model_path).arguments
    return VPTPolicy.from_saved(SavedPolicy(saved.state, arguments or saved.arguments, saved.source), strict=strict)


def _for_the_network(arguments: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Arguments without what this network has no use for; VPT's own ignores it, so a file may hold anything."""
    unknown = [name for name in arguments["policy_kwargs"] if unknown_arguments({name: None}, _network_arguments())]
    if unknown:
        warnings.warn(f"{path}: VPT's network has no use for {', '.join(map(repr, unknown))}", stacklevel=3)
    kept = {name: value for name, value in arguments["policy_kwargs"].items() if name not in unknown}
    return {**arguments, "policy_kwargs": kept}


def _network_arguments() -> set[str]:
    return set(inspect.signature(VPTNetwork).parameters) - {"without_effect"}

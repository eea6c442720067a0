"""Base of policies whose weights come in MineStudio's layouts, and go out in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import gymnasium

from mscore import MinePolicy, MscoreError, apply_weights, describe_space, restore_space
from mscore_plugin_vpt.saved_policy import CONFIG_FILE, WEIGHTS_FILE, SavedPolicy, read_saved_policy


class PretrainedPolicy(MinePolicy):
    """A policy that is read from and written to MineStudio's layouts.

    A subclass implements :meth:`export_config`. It then has :meth:`from_pretrained`,
    :meth:`save_pretrained` and :meth:`load_weights` (which ``init_from:`` of a config uses), and
    ``mscore export`` writes a directory that MineStudio's ``from_pretrained`` reads as well. A subclass
    that fetches weights when it is built says in ``arguments_when_loaded`` how that is left out.
    """

    def export_config(self) -> dict[str, Any]:
        """Constructor arguments as JSON holds them, under MineStudio's names: ``config.json``.

        :func:`described_space` writes an action space.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        strict: bool = True,
        **arguments: Any,
    ) -> Self:
        """Build a policy and load its weights.

        Args:
            source: what :func:`~mscore_plugin_vpt.read_saved_policy` reads: a directory with ``config.json``
                and ``model.safetensors``, a Lightning checkpoint that holds the policy's arguments, or an
                id on the Hugging Face hub. The network is used for the latter alone.
            revision: branch, tag or commit on the hub.
            cache_dir: where the hub's files are kept.
            strict: False warns of tensors that are missing or superfluous instead of refusing them.
            arguments: constructor arguments that replace those that are saved.

        Returns:
            The policy in evaluation mode, on the CPU.

        Raises:
            MscoreError: it cannot be read; nothing says how it is built; the weights do not fit.
        """
        saved = read_saved_policy(source, revision=revision, cache_dir=cache_dir)
        return cls.from_saved(saved, strict=strict, **arguments)

    @classmethod
    def from_saved(cls, saved: SavedPolicy, *, strict: bool = True, **arguments: Any) -> Self:
        """Build a policy from what was read; arguments, result and errors as of :meth:`from_pretrained`."""
        if saved.arguments is None and not arguments:
            raise MscoreError(
                f"{saved.source} holds weights and does not say how the policy is built: build it and call "
                f"load_weights({saved.source!r}), or give {cls.__name__}.from_pretrained its constructor arguments. "
                "What `mscore run` wrote is read by mscore.load_policy"
            )
        known = {**(saved.arguments or {}), **arguments, **cls.arguments_when_loaded}
        if isinstance(known.get("action_space"), Mapping):
            known["action_space"] = restore_space(dict(known["action_space"]))
        try:
            policy = cls(**known)
        except TypeError as error:
            raise MscoreError(f"the arguments in {saved.source} do not fit {cls.__name__}: {error}") from error
        apply_weights(policy, saved.state, saved.source, strict=strict)
        return policy.eval()

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors``, which :meth:`from_pretrained` and MineStudio read.

        Args:
            save_directory: made if it is not there; files of these names are replaced.

        Returns:
            The directory.
        """
        from safetensors.torch import save_file

        folder = Path(save_directory).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        # Tied tensors share memory, which safetensors refuses; each is written by itself.
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        text = json.dumps(self.export_config(), indent=2, sort_keys=True)
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        return folder

    def load_weights(self, source: str, *, strict: bool = True) -> None:
        """Load weights into this policy; ``init_from:`` of a config does.

        Args:
            source: what :func:`~mscore_plugin_vpt.read_saved_policy` reads; what it says about how its
                policy is built does not matter here.
            strict: False warns of tensors that are missing or superfluous instead of refusing them.

        Raises:
            MscoreError: it cannot be read, or the weights do not fit; every tensor is named.
        """
        saved = read_saved_policy(source)
        apply_weights(self, saved.state, saved.source, strict=strict)


def described_space(space: gymnasium.Space[Any], default: gymnasium.Space[Any]) -> dict[str, Any] | None:
    """An action space for ``config.json``: None for the policy's default, which MineStudio writes so."""
    return None if space == default else describe_space(space)

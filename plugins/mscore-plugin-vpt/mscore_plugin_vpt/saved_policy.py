"""Policies as other projects save them: Hugging Face directories and hub ids, Lightning checkpoints, state dicts."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mscore import MscoreError, read_checkpoint

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
POLICY_PREFIX = "mine_policy."
"""What the policy's tensors are called in a Lightning checkpoint."""

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILES = (".ckpt", ".model", ".pt", ".pth", ".safetensors", ".weights")


@dataclass(frozen=True)
class SavedPolicy:
    """A policy as it was found in a file, a directory or on the hub."""

    state: dict[str, Tensor]
    """The policy's own names to tensors, on the CPU."""
    arguments: dict[str, Any] | None
    """Constructor arguments; None where nothing says them."""
    source: str
    """Where it was found, for messages."""


def read_saved_policy(
    source: str | Path, *, revision: str | None = None, cache_dir: str | Path | None = None
) -> SavedPolicy:
    """Read a policy, without running code that it may hold.

    What exists on this machine is read from here, and so is what looks like a path. Anything else of the
    form ``owner/name`` is fetched from the Hugging Face hub.

    Args:
        source: a directory with ``config.json`` and ``model.safetensors``; a Lightning checkpoint (``.ckpt``,
            plain or ``-EMA``) whose ``state_dict`` names the policy's tensors ``mine_policy.…`` and whose
            ``hyper_parameters`` may hold its arguments under ``model``; a ``.safetensors`` file; a file of
            a plain state dict (``.weights``); or a hub id.
        revision: branch, tag or commit on the hub.
        cache_dir: where the hub's files are kept; None means Hugging Face's own place.

    Raises:
        MscoreError: there is nothing, or nothing of these.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_directory(path)
    if path.is_file():
        return _from_safetensors(path, None) if path.suffix == ".safetensors" else _from_torch(path)
    if not _is_hub_id(str(source)):
        raise MscoreError(f"there is no policy at {source}: expected a directory, a checkpoint or a weights file")
    config, weights = (_fetch(str(source), name, revision, cache_dir) for name in (CONFIG_FILE, WEIGHTS_FILE))
    return _from_safetensors(weights, _read_config(config), str(source))


def _is_hub_id(source: str) -> bool:
    """Whether a name of nothing here can be meant for the hub: ``owner/name``, and no folder ``owner`` here."""
    if not _HUB_ID.fullmatch(source) or source.endswith(_FILES):
        return False
    return not Path(source).parent.is_dir()


def _fetch(repository: str, name: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name, revision=revision, cache_dir=cache_dir))
    except LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached and nothing is kept from before; name a folder or file that has them"
        cause: Exception = error
    except EntryNotFoundError as error:
        reason, cause = f"it has no {name}", error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason, cause = (str(error).strip().splitlines() or [type(error).__name__])[0], error
    raise MscoreError(
        f"{repository} is nothing on this machine, and from the Hugging Face hub it cannot be had: {reason}"
    ) from cause


def _from_directory(path: Path) -> SavedPolicy:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise MscoreError(f"{path} has no {name}: expected a directory with {CONFIG_FILE} and {WEIGHTS_FILE}")
    return _from_safetensors(path / WEIGHTS_FILE, _read_config(path / CONFIG_FILE), str(path))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MscoreError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise MscoreError(f"{path} holds a {type(config).__name__}, expected the policy's constructor arguments")
    return config


def _from_safetensors(path: Path, arguments: dict[str, Any] | None, source: str | None = None) -> SavedPolicy:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MscoreError(f"{path} cannot be read: {error}") from error
    return SavedPolicy(state, arguments, source or str(path))


def _from_torch(path: Path) -> SavedPolicy:
    content = read_checkpoint(path)
    if "state_dict" not in content:
        return SavedPolicy(_tensors(content, path), None, str(path))
    state = _tensors(content["state_dict"], path)
    named = {name: tensor for name, tensor in state.items() if name.startswith(POLICY_PREFIX)}
    if named:
        # What else is trained beside a policy (an objective's own tensors) is no part of it.
        state = {name.removeprefix(POLICY_PREFIX): tensor for name, tensor in named.items()}
    hyperparameters = content.get("hyper_parameters")
    model = hyperparameters.get("model") if isinstance(hyperparameters, Mapping) else None
    return SavedPolicy(state, dict(model) if isinstance(model, Mapping) else None, str(path))


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise MscoreError(f"{path} holds no weights: expected names with tensors")
    wrong = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise MscoreError(f"{path} holds more than tensors: {', '.join(wrong[:5])}; expected names with tensors alone")
    return {str(name): tensor for name, tensor in content.items()}

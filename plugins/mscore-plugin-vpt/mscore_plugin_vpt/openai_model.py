"""OpenAI's ``.model`` files: a pickle that says how a VPT policy is built, read without running code."""

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from mscore import MscoreError

_BUILTINS = {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "set", "slice", "str", "tuple"}
_MULTIARRAY = {"scalar", "_reconstruct"}
_ADMITTED: dict[str, set[str]] = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "collections": {"OrderedDict", "defaultdict"},
    "_codecs": {"encode"},  # how pickles of the older protocols write bytes
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": {"_frombuffer"},  # arrays since protocol 5
    "numpy._core.numeric": {"_frombuffer"},
}
"""Module to names of what a pickle may call: containers, and numbers of numpy. None of them runs code."""

_DAMAGED = (
    *(EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError),
    *(MemoryError, OverflowError, RecursionError),
)
"""What unpickling raises for a file that is no pickle, or cut off, beside its own error."""


class _Unpickler(pickle.Unpickler):
    """Admits containers and numbers; anything else in the file is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _ADMITTED.get(module, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_openai_model(path: str | Path) -> dict[str, Any]:
    """Read how a VPT policy is built from a ``.model`` file.

    Only containers, text and numbers are admitted (numpy's too): no code of the file can run.

    Args:
        path: the file.

    Returns:
        ``policy_kwargs``, and ``temperature`` where the file says it, as :class:`VPTPolicy` takes them.

    Raises:
        MscoreError: there is no such file, it holds other objects or is damaged, or it does not describe a
            VPT policy.
    """
    try:
        with Path(path).expanduser().open("rb") as stream:
            content = _load(stream)
    except OSError as error:
        raise MscoreError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise MscoreError(
            f"{path} is no file of VPT's ({error}): a .model file holds containers, text and numbers; what else it "
            "asks for is not loaded, as it could run code"
        ) from error
    except _DAMAGED as error:
        raise MscoreError(f"{path} is no .model file, or damaged: {error}") from error
    try:
        arguments = content["model"]["args"]
        policy_kwargs = arguments["net"]["args"]
        options = arguments.get("pi_head_opts") or {}
        if not isinstance(policy_kwargs, dict):
            raise TypeError(f"its arguments are a {type(policy_kwargs).__name__}")
    except (KeyError, TypeError, AttributeError) as error:
        raise MscoreError(
            f"{path} does not describe a VPT policy: expected the network's arguments at ['model']['args']['net']"
            f"['args'] ({type(error).__name__}: {error})"
        ) from error
    found = {"policy_kwargs": _plain(policy_kwargs)}
    if "temperature" in options:
        found["temperature"] = float(options["temperature"])
    return found


def _load(stream: IO[bytes]) -> Any:
    return _Unpickler(stream).load()


def _plain(value: Any) -> Any:
    """Containers and numbers as JSON and YAML know them."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value

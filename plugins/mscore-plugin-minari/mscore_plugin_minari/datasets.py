"""Minari datasets in their folder: finding one by its id, and what its metadata say."""

import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import minari
from gymnasium import spaces
from minari.dataset.minari_dataset import parse_dataset_id
from minari.serialization import deserialize_space

from mscore import MscoreError

METADATA = "metadata.json"

SUPPORTED = frozenset({"Box", "Dict", "Discrete", "MultiBinary", "MultiDiscrete", "Text", "Tuple"})
"""Spaces that can be read, by the names in the metadata."""

RESERVED = frozenset({"agent_action", "mask", "first", "timestamp", "episode", "reward", "terminated", "truncated"})
"""What batches hold beside the observations: no observation can have these names."""


@dataclass(frozen=True)
class Description:
    """What a dataset's metadata say.

    Attributes:
        dataset_id: its id, such as ``D4RL/door/human-v2``.
        folder: the folder of its files.
        data_format: ``hdf5``, ``arrow`` or ``parquet``.
        episodes: number of episodes.
        observation_space: of its environment.
        action_space: of its environment.
    """

    dataset_id: str
    folder: Path
    data_format: str
    episodes: int
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


def datasets_folder(root: str | None) -> Path:
    """The folder that holds the datasets: ``root``, else the one that Minari uses."""
    if root is not None:
        return Path(root).expanduser()
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def is_local(dataset_id: str, root: Path) -> bool:
    """Whether the folder of datasets holds a dataset of this id."""
    return (root / dataset_id / "data").is_dir()


def describe_dataset(dataset_id: str, root: Path) -> Description:
    """Read a dataset's metadata.

    Minari makes the environment that the metadata name where they lack a space. That is not done here: the
    metadata of a dataset could then run any code.

    Args:
        dataset_id: its id.
        root: the folder of datasets.

    Raises:
        MscoreError: there is no such dataset, its metadata are damaged or of another version of Minari, or a
            space is one that mscore does not support.
    """
    check_id(dataset_id, root)
    if not is_local(dataset_id, root):
        raise MscoreError(
            f"there is no dataset {dataset_id!r} in {root}.{_nearest(dataset_id, root)} To download it, set "
            f"`download: true`; `root`, or the variable MINARI_DATASETS_PATH, says where datasets lie"
        )
    path = root / dataset_id / "data" / METADATA
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        episodes, data_format = content["total_episodes"], content["data_format"]
        version = content["minari_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MscoreError(f"{path} is no metadata of a Minari dataset ({error!r}): get the dataset anew") from error
    if version not in minari.supported_dataset_versions:
        raise MscoreError(
            f"{path}: written by Minari {version}, which the installed {minari.__version__} does not read: "
            "pip install --upgrade minari"
        )
    if data_format not in ("hdf5", "arrow", "parquet") or not isinstance(episodes, int):
        raise MscoreError(
            f"{path}: data_format {data_format!r} and total_episodes {episodes!r}; expected hdf5, arrow or parquet, "
            "and a number"
        )
    if episodes < 1:
        raise MscoreError(f"the dataset {dataset_id!r} in {root} is empty: it has no episode")
    observation_space, action_space = (_space(content, name, path) for name in ("observation_space", "action_space"))
    _refuse_names(observation_space, path)
    _refuse_actions(action_space, path)
    return Description(dataset_id, path.parent, data_format, episodes, observation_space, action_space)


def check_id(dataset_id: str, root: Path) -> None:
    """Refuse what is no id of a dataset, so that no path is made of it.

    Raises:
        MscoreError: it is none.
    """
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError):  # TypeError: the version is missing
        raise MscoreError(
            f"{dataset_id!r} is no id of a Minari dataset; expected `name-v0` or `namespace/name-v0`."
            f"{_nearest(dataset_id, root)}"
        ) from None


def _nearest(dataset_id: str, root: Path) -> str:
    """What to say of the datasets that are there (with a leading space)."""
    there = sorted(_local_ids(root))
    if not there:
        return " That folder holds no dataset." if root.is_dir() else " That folder does not exist."
    near = difflib.get_close_matches(dataset_id, there, n=3, cutoff=0.6)
    if near:
        return " Did you mean " + " or ".join(map(repr, near)) + "?"
    more = f", and {len(there) - 10} more" if len(there) > 10 else ""
    return f" There are {', '.join(map(repr, there[:10]))}{more}."


def _local_ids(root: Path) -> Iterator[str]:
    for folder, names, _ in os.walk(root):
        if "data" in names and (Path(folder) / "data" / METADATA).is_file():
            yield Path(folder).relative_to(root).as_posix()
            names.clear()  # a dataset may have a folder for each episode


def _space(content: dict[str, Any], name: str, path: Path) -> gymnasium.Space[Any]:
    text = content.get(name)
    if text is None:
        raise MscoreError(
            f"{path} has no {name}, and mscore makes no environment of a dataset to learn it; expected the space "
            "in the form of `minari.serialization.serialize_space`"
        )
    try:
        unsupported = sorted(set(_types(json.loads(text))) - SUPPORTED)
        space: gymnasium.Space[Any] | None = None if unsupported else deserialize_space(text)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise MscoreError(f"{path}: {name} cannot be read ({error!r}): the metadata are damaged") from error
    if space is None:
        raise MscoreError(
            f"{path}: {name} holds a space of type {', '.join(unsupported)}; supported are "
            f"{', '.join(sorted(SUPPORTED))}"
        )
    return space


def _types(description: dict[str, Any]) -> Iterator[str]:
    yield str(description["type"])
    parts = description.get("subspaces", [])
    for part in parts.values() if isinstance(parts, dict) else parts:
        yield from _types(part)


def _refuse_names(space: gymnasium.Space[Any], path: Path) -> None:
    taken = sorted(RESERVED & set(space.spaces)) if isinstance(space, spaces.Dict) else []
    if taken:
        raise MscoreError(
            f"{path}: observations are called {', '.join(map(repr, taken))}, as batches call something else; "
            "write the dataset anew from an environment that calls them otherwise"
        )


def _refuse_actions(space: gymnasium.Space[Any], path: Path) -> None:
    match space:
        case spaces.Dict():
            for part in space.spaces.values():
                _refuse_actions(part, path)
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case spaces.Box() if space.dtype is not None and space.dtype.kind == "f":
            pass
        case _:
            raise MscoreError(
                f"{path}: no policy can choose from the action space {space}; supported are Discrete, MultiDiscrete, "
                "MultiBinary, Box of floats, and Dict of these"
            )

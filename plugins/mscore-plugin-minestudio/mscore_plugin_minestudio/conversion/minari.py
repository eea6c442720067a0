"""Converting a Minari dataset."""

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minestudio.conversion.conversion import OnError, Source, Written
from mscore_plugin_minestudio.conversion.recordings import Omission
from mscore_plugin_minestudio.jobs import Advance
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES, DatasetError
from mscore_plugin_minestudio.storage.stored_spaces import SPACES_FILE, StoredSpaces, flatten_action, write_spaces
from mscore_plugin_minestudio.writing.writer import DatasetWriter

SMALLEST_PICTURE = 32
"""Pixels of a side. What is smaller, Minari holds for symbols, as MiniGrid's; a video would blur them."""

OUTCOMES = ("reward", "terminated", "truncated")
"""What is stored in ``meta_info`` of every step, beside the observations that are no pictures."""


@dataclass(frozen=True)
class MinariEpisodes(Source):
    """A Minari dataset whose observations have a picture.

    The pictures become ``image``, as video. The actions are stored by name (see
    :mod:`~mscore_plugin_minestudio.storage.stored_spaces`), and the other observations in ``meta_info``, with the
    ``reward`` of each step and whether it ``terminated`` or ``truncated`` the episode. Row t is the observation that
    action t was chosen for; the observation after the last action is left out. A whole episode is in memory at a time.

    Args:
        source: the dataset's id, looked up where Minari keeps datasets, or its folder.
    """

    source: str

    kind = "minari"
    stored_size = None

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {"source": str(self._folder().resolve())}

    def plan(self) -> tuple[dict[str, int], list[Omission]]:  # noqa: D102
        dataset = self._open()
        _find_picture(dataset.observation_space, self.source)
        return {f"episode-{number}": number for number in range(dataset.total_episodes)}, []

    def write(self, name: str, episode: int, writer: DatasetWriter, on_error: OnError, advance: Advance) -> Written:
        """Write an episode; one that cannot be read is left out."""
        dataset = self._open()
        if not (writer.root / SPACES_FILE).exists():
            write_spaces(writer.root, StoredSpaces(dataset.observation_space, dataset.action_space))
        result = Written()
        done = 0.0
        try:
            with writer.episode(name) as target:
                for share, frames in self._read(dataset, episode):
                    target.extend(**frames)
                    advance(share)
                    done += share
        except DatasetError as error:
            if on_error == "raise":
                raise
            result.omissions.append(Omission(name, error.problem))
            advance(1 - done)
        return result

    def _folder(self) -> Path:
        given = Path(self.source).expanduser()
        if (given / "data" / "metadata.json").is_file():
            return given / "data"
        root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
        folder = root / self.source / "data"
        if not folder.is_dir():
            there = sorted(path.parent.parent.relative_to(root).as_posix() for path in root.rglob("data/metadata.json"))
            near = difflib.get_close_matches(self.source, there) or there[:5]
            raise MscoreError(
                f"there is no Minari dataset {self.source!r} in {root}, and no folder of this name that holds one; "
                f"there {'are ' + ', '.join(map(repr, near)) if near else 'is none'}"
            )
        return folder

    def _open(self) -> Any:
        folder = self._folder()
        try:
            import minari
        except ImportError as error:
            raise MscoreError(
                f'{self.source}: the package minari is needed ({error}): pip install "mscore-plugin-minestudio[minari]"'
            ) from error
        try:
            metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
            # Minari makes the environment that the metadata name, which may be any program, to learn a space.
            if not {"observation_space", "action_space"} <= metadata.keys():
                raise MscoreError(f"{folder}: its metadata do not say both spaces; get the dataset anew")
            return minari.MinariDataset(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, ImportError) as error:
            raise MscoreError(f"{folder} cannot be read as a Minari dataset: {error!r}") from error

    def _read(self, dataset: Any, number: int) -> Iterator[tuple[float, dict[str, Any]]]:
        """Chunks of an episode's frames, each with its share of the episode."""
        try:
            (episode,) = dataset.iterate_episodes([number])
        except Exception as error:
            # Whatever the libraries below Minari raise for a damaged file.
            raise DatasetError(f"it cannot be read ({error!r})", episode=f"episode-{number}") from error
        key, space = _find_picture(dataset.observation_space, self.source)
        actions = flatten_action(dataset.action_space, episode.actions)
        steps = len(episode.rewards)
        lengths = {name: len(array) for name, array in actions.items() if len(array) != steps}
        pictures = episode.observations if key is None else episode.observations[key]
        if lengths or len(pictures) != steps + 1:
            raise DatasetError(
                f"{len(pictures)} observations and {lengths or steps} actions for {steps} rewards; expected as many "
                "actions, and one observation more",
                episode=f"episode-{number}",
            )
        for start in range(0, steps, CHUNK_FRAMES):
            chunk = slice(start, min(start + CHUNK_FRAMES, steps))
            yield (
                (chunk.stop - start) / steps,
                {
                    "image": _in_colour(pictures[chunk], space),
                    "action": {name: array[chunk] for name, array in actions.items()},
                    "meta_info": [_step(episode, step, key) for step in range(chunk.start, chunk.stop)],
                },
            )


def _find_picture(space: gymnasium.Space[Any], source: str) -> tuple[str | None, spaces.Box]:
    """The observation that is the picture: its key (None if it is all there is), and its space."""
    parts: Mapping[Any, Any] = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    taken = [name for name in OUTCOMES if name in parts]
    if taken:
        raise MscoreError(f"{source}: an observation is called {taken[0]!r}, as what comes of an action is stored")
    pictures = {key: part for key, part in parts.items() if _is_picture(part)}
    if "image" in pictures:
        return "image", pictures["image"]
    if len(pictures) != 1:
        names = ", ".join(repr(key) for key in pictures) or "none"
        raise MscoreError(
            f"{source}: expected one picture in the observations, or one that is called 'image', found {names}. "
            f"A picture is a Box of uint8, (height, width) or (height, width, 1 or 3), at least {SMALLEST_PICTURE} "
            "pixels a side. Data without pictures are trained on with mscore-plugin-minari"
        )
    return next(iter(pictures.items()))


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    shape = space.shape or ()
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))
        and min(shape[:2]) >= SMALLEST_PICTURE
    )


def _in_colour(pictures: NDArray[np.uint8], space: spaces.Box) -> NDArray[np.uint8]:
    """Frames (T, height, width, 3); a grey picture gets three equal channels."""
    pictures = np.asarray(pictures)
    if len(space.shape) == 2:
        pictures = pictures[..., None]
    return pictures if pictures.shape[-1] == 3 else pictures.repeat(3, axis=-1)


def _step(episode: Any, step: int, picture: str | None) -> dict[str, Any]:
    """What is known of a step beside picture and action, as plain data."""
    others = {} if picture is None else {key: part for key, part in episode.observations.items() if key != picture}
    return {
        **{key: _plain(part, step) for key, part in others.items()},
        "reward": float(episode.rewards[step]),
        "terminated": bool(episode.terminations[step]),
        "truncated": bool(episode.truncations[step]),
    }


def _plain(value: Any, step: int) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part, step) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part, step) for part in value]
    if isinstance(value, list):
        return value[step]
    return value[step].tolist()

"""Actions: reading them from a dataset, and VPT's ids of them."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.modalities.vpt_actions import NULL_BUTTONS as NULL_BUTTONS
from mscore_plugin_minestudio.modalities.vpt_actions import to_agent_action as to_agent_action
from mscore_plugin_minestudio.modalities.vpt_actions import to_env_action as to_env_action
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, CAMERA_KEY, DatasetError, PayloadError
from mscore_plugin_minestudio.storage.payloads import ArrayPayloads
from mscore_plugin_minestudio.storage.store import ModalityStore


class FrameSpec(NamedTuple):
    """One frame of an action's array.

    Attributes:
        dtype: its dtype.
        shape: its shape, () for a number.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class ActionReader:
    """Reads the actions of any frames. It may be sent to other processes.

    Args:
        store: the modality ``action``.
    """

    def __init__(self, store: ModalityStore) -> None:
        self.store = store
        self._payloads = ArrayPayloads()

    @cached_property
    def spec(self) -> dict[str, FrameSpec]:
        """An action's arrays by key, in the order in which they are stored.

        They are those of the first chunk that can be read: one that cannot is its episode's misfortune only.

        Raises:
            DatasetError: no episode's first chunk can be read.
        """
        problem: DatasetError | None = None
        for episode in self.store.episodes:
            try:
                return self._spec_of(episode)
            except DatasetError as error:
                problem = problem or error
        raise problem or DatasetError("there is no episode")

    @property
    def is_minecraft(self) -> bool:
        """Whether the actions have the 21 keys of Minecraft, so that there are ids of them."""
        return all(key in self.spec for key in ACTION_KEYS)

    def read(self, episode: str, frames: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The actions that were taken at some frames.

        Args:
            episode: the episode's name.
            frames: numbers of frames, ascending, at least one, (n,) int64.

        Returns:
            The arrays by key, (n, …), as they are stored.

        Raises:
            DatasetError: a chunk is missing or cannot be read, or differs from ``spec``.
        """
        actions = {key: np.empty((len(frames), *shape), dtype) for key, (dtype, shape) in self.spec.items()}
        for span in self.store.spans(frames):
            arrays = self._load(episode, span.start)
            self._check(episode, span.start, arrays)
            for key, target in actions.items():
                target[span.place] = arrays[key][span.selection]
        return actions

    def _spec_of(self, episode: str) -> dict[str, FrameSpec]:
        arrays = self._load(episode, 0)
        spec = {key: FrameSpec(array.dtype, array.shape[1:]) for key, array in arrays.items()}
        missing = [key for key in ACTION_KEYS if key not in spec]
        if len(missing) > len(ACTION_KEYS) // 2:
            return spec  # It comes from another world than Minecraft.
        if missing:
            raise self.store.error(episode, 0, f"an action of Minecraft without {', '.join(missing)}")
        for key in ACTION_KEYS:
            kinds, shape = ("f", (2,)) if key == CAMERA_KEY else ("iub", ())
            if spec[key].dtype.kind not in kinds or spec[key].shape != shape:
                raise self.store.error(episode, 0, f"{key!r} is no {'angle' if key == CAMERA_KEY else 'flag'}")
        return spec

    def _load(self, episode: str, start: int) -> dict[str, NDArray[Any]]:
        raw = self.store.read_chunk(episode, start)
        try:
            return self._payloads.load(raw)
        except PayloadError as error:
            raise self.store.error(episode, start, str(error)) from error

    def _check(self, episode: str, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        differing = sorted(arrays.keys() ^ self.spec.keys())
        if differing:
            raise self.store.error(episode, start, f"keys that only some chunks have: {', '.join(differing)}")
        for key, (dtype, shape) in self.spec.items():
            array, wanted = arrays[key], (self.store.chunk_frames, *shape)
            fits = array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind")
            if not fits or array.shape != wanted:
                raise self.store.error(
                    episode, start, f"{key!r} is {array.dtype} of shape {array.shape}; expected {dtype} of {wanted}"
                )
        if self.is_minecraft and not np.isfinite(arrays[CAMERA_KEY]).all():
            raise self.store.error(episode, start, f"{CAMERA_KEY!r} holds angles that are no numbers")

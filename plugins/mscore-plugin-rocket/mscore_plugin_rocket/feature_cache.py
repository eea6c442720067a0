"""Features of a frozen backbone on disk, one file for each window of data."""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mscore import MscoreError

RESERVE = 2 * 2**30
"""Bytes that are left free on the disk: with less, nothing more is written."""

_FEATURES = "features"
_PRIME = 0x9E3779B97F4A7C15 - 2**64
"""The golden ratio's multiplier for hashes of 64 bits, as a signed number."""


class FeatureCache:
    """Keeps what a frozen network makes of windows of frames.

    A window is known by its episode, its timestamps and its pixels; the network by its weights, its
    transform, the type that it computes in and the size of the frames. Where any of these differs the
    features are computed, so that what is read is always what would have been computed. Files are written
    whole or not at all, and several processes can share a folder.

    Args:
        folder: made when the first window is written. A subfolder for each network.

    Attributes:
        hits: windows that were read.
        misses: windows that were computed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.hits = 0
        self.misses = 0
        self._full = False
        self._weights: tuple[object, str] | None = None

    def features(
        self,
        network: nn.Module,
        transform: str,
        compute: Callable[[torch.Tensor], torch.Tensor],
        frames: Sequence[torch.Tensor],
        episodes: Sequence[str],
        timestamps: torch.Tensor,
    ) -> torch.Tensor:
        """Read the features of windows, and compute and keep those that are not there.

        Args:
            network: whose weights the features depend on; must be frozen.
            transform: what else they depend on, in words.
            compute: makes features (n, T, …) of some rows, an index (n,) int64.
            frames: what the network sees: tensors (B, T, …).
            episodes: names, one for each row.
            timestamps: (B, T) int64.

        Returns:
            (B, T, …), on the frames' device.

        Raises:
            MscoreError: the folder cannot be written.
        """
        device = frames[0].device
        folder = self.folder / self._network(network, f"{transform} {_computing(device)}")
        prints = torch.stack([fingerprints(frame) for frame in frames], dim=-1).cpu().numpy()
        times = timestamps.cpu().numpy()
        shapes = [(tuple(frame.shape[1:]), str(frame.dtype)) for frame in frames]
        paths = [
            folder / _window(f"{shapes} {episode}".encode(), times[row].tobytes(), prints[row].tobytes())
            for row, episode in enumerate(episodes)
        ]
        found = [self._read(path, device) for path in paths]
        missing = [row for row, features in enumerate(found) if features is None]
        self.hits += len(found) - len(missing)
        self.misses += len(missing)
        if missing:
            made = compute(torch.tensor(missing, device=device))
            for row, features in zip(missing, made, strict=True):
                found[row] = features
                self._write(paths[row], features)
        return torch.stack([features for features in found if features is not None])

    def _network(self, network: nn.Module, transform: str) -> str:
        """A network's folder: a hash of its weights, taken again only when they have been written to."""
        state = network.state_dict()
        version = tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in state.values())
        if self._weights is None or self._weights[0] != version:
            digest = hashlib.sha256()
            for name, tensor in state.items():
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._weights = (version, digest.hexdigest())
        return hashlib.sha256(f"{self._weights[1]} {transform}".encode()).hexdigest()[:20]

    def _read(self, path: Path, device: torch.device) -> torch.Tensor | None:
        try:
            return load_file(path)[_FEATURES].to(device, non_blocking=True)
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, OSError) as error:
            warnings.warn(f"{path} cannot be read and is computed again: {error}", stacklevel=2)
            return None

    def _write(self, path: Path, features: torch.Tensor) -> None:
        if self._full:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < RESERVE:
                self._full = True
                warnings.warn(
                    f"{self.folder}: less than {RESERVE >> 30} GiB are free on this disk; further features are "
                    "computed each time",
                    stacklevel=2,
                )
                return
            handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".part")
            os.close(handle)
            try:
                save_file({_FEATURES: features.detach().cpu().contiguous()}, unfinished)
                os.replace(unfinished, path)
            except BaseException:
                Path(unfinished).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise MscoreError(f"feature_cache {self.folder}: {path} cannot be written: {error}") from error


def fingerprints(frames: torch.Tensor) -> torch.Tensor:
    """A number for the content of each frame: equal frames have equal numbers, others hardly ever.

    It is made on the frames' own device; frames on a GPU are not copied to be hashed.

    Args:
        frames: (B, T, …) of any type.

    Returns:
        (B, T) int64.
    """
    content = frames.flatten(2) if frames.dim() > 2 else frames.unsqueeze(-1)
    content = content.contiguous().view(torch.uint8).flatten(2)
    content = torch.nn.functional.pad(content, (0, -content.shape[-1] % 4)).view(torch.int32).long()
    # Words of 32 bits times odd numbers of 64: a sum in which every bit of every word counts.
    place = torch.arange(1, content.shape[-1] + 1, device=frames.device)
    factors = place * _PRIME
    factors = (factors ^ (factors >> 29)) * _PRIME | 1
    return (content * factors).sum(-1)


def _computing(device: torch.device) -> str:
    """The type in which a network computes here and now, where it is not that of its weights."""
    if not torch.is_autocast_enabled(device.type):
        return "exact"
    return f"autocast {torch.get_autocast_dtype(device.type)}"


def _window(*parts: bytes) -> str:
    name = hashlib.sha256(b"|".join(parts)).hexdigest()
    return f"{name[:2]}/{name[2:]}.safetensors"

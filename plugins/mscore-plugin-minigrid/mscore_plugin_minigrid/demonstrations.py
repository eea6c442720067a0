"""A dataset of demonstrations on disk: recording it once, and reading windows of it.

A dataset is a folder of plain ``.npy`` files (no pickles), frames of all episodes in a row: one file per
observation, ``agent_action.npy``, ``lengths.npy`` and ``seeds.npy`` per episode, and ``meta.json`` with what
was recorded, the spaces, and the tables of texts (an observation of text is stored as numbers into one).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import minigrid
import numpy as np

from mscore import MscoreError, WindowDataset, describe_space, restore_space
from mscore_plugin_minigrid.environment import MiniGridEnvironment
from mscore_plugin_minigrid.recording import play_in_processes

FORMAT = 1
FIRST_EVALUATION_SEED = 1_000_000
"""Demonstrations are played on seeds below it, evaluations on seeds from it on: they never meet."""

META = "meta.json"


def identity(environment: MiniGridEnvironment, episodes: int, seed: int) -> dict[str, Any]:
    """What a dataset was recorded from: two with the same identity hold the same frames."""
    return {
        "env": environment.env,
        "kwargs": environment.kwargs,
        "episodes": episodes,
        "seed": seed,
        "minigrid": minigrid.__version__,
        "format": FORMAT,
    }


def record(environment: MiniGridEnvironment, episodes: int, seed: int, root: Path, processes: int) -> None:
    """Record successful demonstrations by the expert into a folder, unless they are there already.

    The levels' seeds are drawn from ``seed``, and the first ``episodes`` of them that the expert solves are
    kept, so that the result does not depend on the number of processes. The folder appears all at once;
    of two processes that record the same, one is kept.

    Args:
        environment: the environment; its expert plays.
        episodes: demonstrations to keep.
        seed: which levels.
        root: the dataset's folder.
        processes: recording processes.

    Raises:
        MscoreError: the folder holds something else, or the expert cannot play this environment.
    """
    wanted = identity(environment, episodes, seed)
    if is_recorded(root, wanted):
        return
    probe = environment.make()
    try:
        probe.reset(seed=0)
        environment.expert(probe)
        spaces = {
            "observation_space": describe_space(probe.observation_space),
            "action_space": describe_space(probe.action_space),
        }
    finally:
        probe.close()

    root.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".tmp", dir=root.parent))
    try:
        seeds = np.random.default_rng(seed).permutation(FIRST_EVALUATION_SEED)
        parts = play_in_processes(environment, seeds, episodes, processes, draft)
        texts = _write(parts, seeds, episodes, draft)
        meta = {"recorded": wanted, **spaces, "texts": texts}
        (draft / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        draft.chmod(0o777 & ~_umask())
        _publish(draft, root, wanted)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def is_recorded(root: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a folder holds the dataset of this identity; False if there is nothing yet.

    Raises:
        MscoreError: it holds something else; the message says what differs.
    """
    try:
        meta = json.loads((root / META).read_text(encoding="utf-8"))
        found = meta["recorded"]
    except FileNotFoundError:
        if root.is_dir() and any(root.iterdir()):
            raise MscoreError(
                f"{root} holds something that is not a dataset of demonstrations; choose another `root`"
            ) from None
        return False
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise MscoreError(f"{root / META} cannot be read ({error}); choose another `root`") from error
    different = [
        f"{key} {found.get(key)!r} instead of {value!r}" for key, value in wanted.items() if found.get(key) != value
    ]
    if different:
        raise MscoreError(
            f"{root} holds other demonstrations ({', '.join(different)}); choose another `root`, or delete it"
        )
    return True


def _write(parts: Sequence[Mapping[str, np.ndarray]], seeds: np.ndarray, episodes: int, to: Path) -> dict[str, Any]:
    """Write the parts' first ``episodes`` demonstrations, in the order of ``seeds``; the tables of texts."""
    rank = np.empty(FIRST_EVALUATION_SEED, dtype=np.int64)
    rank[seeds] = np.arange(len(seeds))
    played = np.concatenate([part["seeds"] for part in parts])
    lengths = np.concatenate([part["lengths"] for part in parts])
    starts = np.concatenate(([0], lengths.cumsum()[:-1]))
    kept = np.argsort(rank[played])[:episodes]
    frames = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in kept])
    np.save(to / "seeds.npy", played[kept])
    np.save(to / "lengths.npy", lengths[kept])
    texts = {}
    for key in next(part.keys() for part in parts if len(part["seeds"])):
        if key == "agent_action" or key.startswith("observation."):
            columns = [part[key] for part in parts if key in part]
            name = key.removeprefix("observation.")
            tables = [part[f"text.{name}"] for part in parts if f"text.{name}" in part]
            if tables:
                table = np.unique(np.concatenate(tables))
                columns = [np.searchsorted(table, own)[c] for own, c in zip(tables, columns, strict=True)]
                texts[name] = table.tolist()
            np.save(to / f"{key}.npy", np.concatenate(columns)[frames])
    return texts


def _publish(draft: Path, root: Path, wanted: Mapping[str, Any]) -> None:
    try:
        os.rename(draft, root)
    except OSError:
        # Another process may have been faster. Its dataset is this one, or the reason to stop.
        if not is_recorded(root, wanted):
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class Demonstrations(WindowDataset):
    """Windows of recorded demonstrations.

    Args:
        root: the dataset's folder.
        window: frames of a window.
        episodes: numbers of the episodes to serve, in this order; None means all.

    Attributes:
        observation_space: what the environment showed.
        action_space: what the expert chose from.
    """

    def __init__(self, root: Path, window: int, episodes: Sequence[int] | None = None) -> None:
        meta = json.loads((root / META).read_text(encoding="utf-8"))
        self.observation_space: gymnasium.Space[Any] = restore_space(meta["observation_space"])
        self.action_space: gymnasium.Space[Any] = restore_space(meta["action_space"])
        self._texts: dict[str, list[str]] = meta["texts"]
        lengths, seeds = np.load(root / "lengths.npy"), np.load(root / "seeds.npy")
        chosen = np.arange(len(lengths)) if episodes is None else np.asarray(episodes, dtype=np.int64)
        self._starts = np.concatenate(([0], lengths.cumsum()[:-1]))[chosen]
        # Mapped, so that all worker processes share one copy of the frames.
        self._columns = {
            path.name.removesuffix(".npy").removeprefix("observation."): np.load(path, mmap_mode="r")
            for path in sorted(root.glob("*.npy"))
            if path.name.startswith("observation.") or path.name == "agent_action.npy"
        }
        super().__init__([f"seed-{seed}" for seed in seeds[chosen]], lengths[chosen].tolist(), window)

    def read(self, episode: int, start: int, stop: int) -> dict[str, Any]:
        """Observations by name and ``agent_action`` of the frames ``start`` to ``stop``."""
        first = int(self._starts[episode])
        frames = {key: column[first + start : first + stop] for key, column in self._columns.items()}
        for key, table in self._texts.items():
            frames[key] = [table[number] for number in frames[key]]
        return frames

"""Reading datasets: their modalities, joined by the names of their episodes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mscore_plugin_minestudio.storage.event_store import EventStore as EventStore
from mscore_plugin_minestudio.storage.layout import DATA_FILE, MODALITY_FOLDERS, DatasetError, modality_of
from mscore_plugin_minestudio.storage.modality import ModalityStore as ModalityStore
from mscore_plugin_minestudio.storage.modality import OnError, find_parts, raise_first
from mscore_plugin_minestudio.storage.parts import EpisodeRecord as EpisodeRecord
from mscore_plugin_minestudio.storage.parts import Part as Part

_NAMED = 5
"""Episodes that a summary names of those left out for one reason."""

_DOWNLOADED = ("6xx", "7xx", "8xx", "9xx", "10xx")
"""Names that MineStudio itself takes for datasets to download."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode that every modality holds.

    Attributes:
        name: its name.
        frames: its frames.
    """

    name: str
    frames: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An episode that is not used.

    Attributes:
        name: its name.
        reason: why not.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Catalog:
    """What some datasets hold together. It may be sent to other processes.

    Attributes:
        stores: modality to its chunks.
        episodes: the episodes that every modality holds with as many frames, sorted by name.
        left_out: the others, sorted by name.
        problems: what could not be read; empty where problems are raised.
    """

    stores: dict[str, ModalityStore]
    episodes: list[Episode]
    left_out: list[LeftOut]
    problems: list[DatasetError] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for people: what is used, what is not, and why."""
        frames = sum(episode.frames for episode in self.episodes)
        lines = [f"{_count(self.episodes, 'episode')}, {frames} frames ({', '.join(self.stores)})"]
        reasons: dict[str, list[str]] = defaultdict(list)
        for left_out in self.left_out:
            reasons[left_out.reason].append(left_out.name)
        if self.left_out:
            lines.append(f"{_count(self.left_out, 'episode')} left out:")
        for reason, names in reasons.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"  {reason}: {', '.join(repr(name) for name in names[:_NAMED])}{more}")
        whole = [problem for problem in self.problems if problem.episode is None]
        if whole:
            lines.append("not read:")
            lines += [f"  {problem}" for problem in whole]
        for store in self.stores.values():
            if store.repeated:
                repeated = ", ".join(repr(name) for name in store.repeated[:_NAMED])
                lines.append(f"{store.modality}: in several parts, the last one's is used: {repeated}")
        return "\n".join(lines)


def open_catalog(dataset_dirs: Sequence[str | Path], modalities: Iterable[str], on_error: OnError = "raise") -> Catalog:
    """Find the episodes of some datasets.

    Args:
        dataset_dirs: the datasets' folders; their parts are taken together.
        modalities: those that an episode must have, of
            :data:`~mscore_plugin_minestudio.storage.layout.MODALITY_FOLDERS`.
        on_error: what to do about a part or an episode that cannot be read: ``raise`` stops, ``skip`` leaves it
            out and lists it in ``problems`` and ``left_out``.

    Raises:
        DatasetError: a folder is missing or no dataset, a modality is in none of them, no episode is left, or,
            with ``raise``, a part or an episode cannot be read.
    """
    folders = [Path(folder).expanduser() for folder in dataset_dirs]
    if not folders:
        raise DatasetError("no dataset is named: `dataset_dirs` is empty")
    for folder in folders:
        check_dataset(folder)
    stores = {modality: _open_store(folders, modality, on_error) for modality in modalities}
    episodes, left_out = join(stores)
    problems = [problem for store in stores.values() for problem in store.problems]
    catalog = Catalog(stores, episodes, left_out, problems)
    if not episodes:
        text = f"no episode can be used\n{catalog.summary()}"
        raise DatasetError(text, file=", ".join(str(folder) for folder in folders))
    return catalog


def check_dataset(folder: Path) -> None:
    """Refuse a folder that is no dataset.

    Raises:
        DatasetError: there is no such folder, or it holds no modality.
    """
    if not folder.is_dir():
        name = folder.name
        hint = (
            f"; download CraftJarvis/minestudio-data-{name}-v110 from Hugging Face and name the folder"
            if name in _DOWNLOADED
            else ""
        )
        raise DatasetError(f"there is no such folder; expected the folder of a dataset{hint}", file=folder)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"it cannot be listed: {error}", file=folder) from error
    if not any(modality_of(entry.name) and entry.is_dir() for entry in entries):
        found = ", ".join(repr(entry.name) for entry in entries[:_NAMED]) or "nothing"
        names = ", ".join(name for names in MODALITY_FOLDERS.values() for name in names)
        raise DatasetError(
            f"it is no dataset of MineStudio's: expected folders {names}; found {found}{_guess(folder)}", file=folder
        )


def _guess(folder: Path) -> str:
    """What the folder is instead, if that can be seen."""
    if modality_of(folder.name) and any(folder.glob(f"*/{DATA_FILE}")):
        return f"; the dataset is {folder.parent}"
    if any(folder.glob("*.mp4")) and any(folder.glob("*.jsonl")):
        return "; these are recordings: `mscore data convert` makes a dataset of them"
    if (folder / "data" / "metadata.json").exists():
        return "; this is a dataset of Minari's: use the data module `minari`, or `mscore data convert`"
    return ""


def _open_store(folders: Sequence[Path], modality: str, on_error: OnError) -> ModalityStore:
    parts, problems = [], []
    for folder in folders:
        found, strays = find_parts(folder, modality)
        parts += found
        problems += strays
    if on_error == "raise":
        raise_first(problems)
    if not parts:
        file = ", ".join(str(folder) for folder in folders)
        names = " or ".join(f"{name}/" for name in MODALITY_FOLDERS[modality])
        raise DatasetError(f"it holds no {modality}: expected parts in {names}", file=file)
    store = ModalityStore(modality, parts, on_error)
    store.problems[:0] = problems
    return store


def join(stores: Mapping[str, ModalityStore]) -> tuple[list[Episode], list[LeftOut]]:
    """The episodes that every modality holds with as many frames, and the others, both sorted by name."""
    broken = {
        problem.episode: str(problem)
        for store in stores.values()
        for problem in store.problems
        if problem.episode is not None
    }
    names = {*broken, *(name for store in stores.values() for name in store.episodes)}
    episodes, left_out = [], []
    for name in sorted(names):
        frames = {modality: store.episodes[name].frames for modality, store in stores.items() if name in store.episodes}
        missing = [modality for modality in stores if modality not in frames]
        if missing:
            left_out.append(LeftOut(name, broken.get(name) or f"not in {', '.join(missing)}"))
        elif len(set(frames.values())) > 1:
            left_out.append(LeftOut(name, ", ".join(f"{count} frames of {key}" for key, count in frames.items())))
        else:
            episodes.append(Episode(name, next(iter(frames.values()))))
    return episodes, left_out


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")

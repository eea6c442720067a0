"""MineStudio's dataset layout: its folders, keys and fields, and the errors for what departs from them.

``<dataset>/<modality>/<part>/data.mdb`` are LMDB environments, a part each; ``<dataset>/event/data.mdb`` is one
alone. A part holds chunks of consecutive frames of whole episodes under :func:`chunk_key`, and what it holds
under the ``META_KEYS``. Every value but an image chunk is a pickle, read by
:func:`~mscore_plugin_minestudio.storage.payloads.load_payload` only. Format of MineStudio v1.1.
"""

from pathlib import Path

from mscore import MscoreError

CHUNK_FRAMES = 32
"""Frames of a chunk as MineStudio writes it; a part states its own."""

DATA_FILE = "data.mdb"

MODALITY_FOLDERS: dict[str, tuple[str, ...]] = {
    "image": ("image", "video"),
    "action": ("action",),
    "meta_info": ("meta_info", "contractor_info"),
    "segmentation": ("segmentation", "segment"),
}
"""Modality to the folders that may hold it. A suffix does not count (``image.v2`` holds images)."""

EVENT_FOLDER = "event"

CHUNK_SIZE_KEY = b"__chunk_size__"
CHUNK_INFOS_KEY = b"__chunk_infos__"
NUM_EPISODES_KEY = b"__num_episodes__"
TOTAL_FRAMES_KEY = b"__num_total_frames__"
META_KEYS = (CHUNK_SIZE_KEY, CHUNK_INFOS_KEY, NUM_EPISODES_KEY, TOTAL_FRAMES_KEY)
"""Keys of a part beside its chunks."""

EPISODE_FIELD = "episode"
INDEX_FIELD = "episode_idx"
FRAMES_FIELD = "num_frames"
VALID_FRAMES_FIELD = "num_valid_frames"
"""Fields of an entry of ``__chunk_infos__``. The last is ours: frames of an episode whose last chunk is padded."""

NUM_EVENTS_KEY = b"__num__events__"
EVENT_INFO_KEY = b"__event_info__"
CODEBOOK_KEY = b"__codebook__"
EVENT_ITEMS_FIELD = "__num_items__"
EVENT_EPISODES_FIELD = "__num_episodes__"

FLAG_KEYS = (
    "back", "drop", "forward",
    "hotbar.1", "hotbar.2", "hotbar.3", "hotbar.4", "hotbar.5", "hotbar.6", "hotbar.7", "hotbar.8", "hotbar.9",
    "inventory", "jump", "left", "right", "sneak", "sprint", "attack", "use",
)  # fmt: skip
"""The 20 keys and mouse buttons of a Minecraft action, (T,) int64 of 0 and 1."""

CAMERA_KEY = "camera"
"""The mouse of a Minecraft action: pitch and yaw in degrees, (T, 2) float64."""

ACTION_KEYS = (*FLAG_KEYS[:-2], CAMERA_KEY, *FLAG_KEYS[-2:])
"""The 21 keys of a Minecraft action in the order in which they are stored."""


def chunk_key(index: int, start: int) -> bytes:
    """Key of a chunk.

    Args:
        index: the episode's number in its part.
        start: the chunk's first frame, a multiple of the chunk size.
    """
    return b"(%d, %d)" % (index, start)


def event_key(event: str, item: int) -> bytes:
    """Key of an item of an event; the name is quoted as Python quotes it (``("it's", 0)``)."""
    return repr((event, item)).encode()


def modality_of(folder: str) -> str | None:
    """The modality that a folder of this name holds; None if it holds none."""
    stem = Path(folder).stem
    return next((modality for modality, names in MODALITY_FOLDERS.items() if stem in names), None)


class PayloadError(MscoreError):
    """Bytes that are not the pickle of plain data and arrays."""


class DatasetError(MscoreError):
    """A dataset on disk is not what it should be.

    Args:
        problem: what was found, what was expected, and what to do.
        file: the file or folder.
        key: the LMDB key.
        episode: the episode.

    Attributes:
        problem: as given.
        file: as given, as text.
        key: as given, as text.
        episode: as given.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        key: bytes | str | None = None,
        episode: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.key = key.decode(errors="backslashreplace") if isinstance(key, bytes) else key
        self.episode = episode
        places = [
            self.file,
            None if self.key is None else f"key {self.key}",
            None if episode is None else f"episode {episode!r}",
        ]
        place = ", ".join(place for place in places if place is not None)
        super().__init__(f"{place}: {problem}" if place else problem)

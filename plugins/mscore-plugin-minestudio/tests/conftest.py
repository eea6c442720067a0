import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest
from mscore_plugin_minestudio.storage.layout import chunk_key
from mscore_plugin_minestudio.storage.store import open_catalog

GOLDEN = Path(__file__).parent / "golden" / "minestudio"


@pytest.fixture(scope="session")
def golden():
    """A dataset that MineStudio wrote (``dataset``), and what its own reader returns (``out``)."""
    return GOLDEN


@pytest.fixture(scope="session")
def vpt():
    """Functions that make recordings as OpenAI's VPT recorder does (vpt_recordings.py)."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("vpt_recordings.py"))))


@pytest.fixture
def dataset(tmp_path):
    """A copy of the golden dataset, to spoil."""
    return Path(shutil.copytree(GOLDEN / "dataset", tmp_path / "dataset"))


@pytest.fixture
def edit():
    """Set (bytes) or delete (None) values of an LMDB environment."""

    def edit(folder, values):
        folder.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
            for key, value in values.items():
                if value is None:
                    assert transaction.delete(key)
                else:
                    transaction.put(key, value)

    return edit


@pytest.fixture
def change_chunk(edit):
    """Change the payload of an episode's chunk; the place, as errors say it."""

    def change_chunk(dataset, modality, episode, start, change):
        store = open_catalog([dataset], [modality]).stores[modality]
        record = store.episodes[episode]
        file, key = record.part.file, chunk_key(record.index, start)
        raw = store.read_chunk(episode, start)
        del store, record  # it is closed behind its last reader
        edit(file.parent, {key: change(raw)})
        return f"{file}, key {key.decode()}, episode {episode!r}"

    return change_chunk

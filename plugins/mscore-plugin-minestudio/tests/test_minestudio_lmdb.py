"""LMDB files: opened once in a process, lazily, in every kind of process; and no file ends the process."""

import gc
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest
from mscore_plugin_minestudio.storage import lmdb_reader
from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.lmdb_pages import check_pages
from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader

SCRIPT = Path(__file__).parent / "damaged_lmdb.py"
KEY = b"(0, 0)"


@pytest.fixture
def folder(dataset):
    return dataset / "action" / "part-4"


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened."""
    files = []
    real = lmdb.open

    def counting(path, **options):
        files.append(path)
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", counting)
    return files


def test_a_file_is_opened_once_and_only_when_it_is_read(folder, tmp_path, opened):
    (tmp_path / "link").symlink_to(folder)
    readers = [LmdbReader(folder), LmdbReader(folder), LmdbReader(tmp_path / "link")]
    assert not opened
    values = {reader.get(KEY) for reader in readers for _ in range(3)}
    assert len(values) == 1
    assert len(opened) == 1
    assert readers[0].get(b"nothing") is None


def test_a_file_is_closed_with_its_last_reader(folder, edit):
    reader = LmdbReader(folder)
    before = reader.get(KEY)
    del reader
    gc.collect()
    edit(folder, {KEY: b"new"})
    assert LmdbReader(folder).get(KEY) == b"new" != before


def test_a_file_that_takes_anothers_place_is_read(folder, dataset):
    old = LmdbReader(folder)
    before = old.get(b"__chunk_infos__")
    folder.rename(dataset / "old")
    shutil.copytree(dataset / "action" / "part-7", folder)
    assert LmdbReader(folder).get(b"__chunk_infos__") != before
    assert old.get(b"__chunk_infos__") == before


def test_threads_share_it_while_others_let_go_of_it(folder):
    value = LmdbReader(folder).get(KEY)
    begin = threading.Barrier(8)

    def read(_):
        begin.wait()
        return {LmdbReader(folder).get(KEY) for _ in range(200)}

    with ThreadPoolExecutor(8) as threads:
        assert set.union(*threads.map(read, range(8))) == {value}


def in_a_fork(function, *arguments):
    """What a function returns in a forked process."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=lambda: results.put(function(*arguments)))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    return results.get()


def test_a_forked_process_opens_its_own(folder, opened):
    reader, other = LmdbReader(folder), LmdbReader(folder.parent / "part-7")
    value = reader.get(KEY)

    def read():
        values = reader.get(KEY), LmdbReader(folder).get(KEY), other.get(KEY)
        return values, len(opened)

    first, second = in_a_fork(read), in_a_fork(read)
    assert first == second == ((value, value, other.get(KEY)), 3)
    assert reader.get(KEY) == value
    assert len(opened) == 2


def test_a_process_that_is_forked_while_another_thread_opens_can_read(folder):
    reader = LmdbReader(folder)
    with lmdb_reader._lock:
        assert in_a_fork(reader.get, KEY)


def test_a_reader_that_is_sent_away_leaves_its_environment(folder):
    reader = LmdbReader(folder)
    value = reader.get(KEY)
    code = "import pickle, sys; reader = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(reader.get(b'(0, 0)'))"
    result = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(reader), capture_output=True, check=True)
    assert result.stdout == value


def test_a_file_is_checked_once_for_all_processes(folder, monkeypatch):
    LmdbReader(folder).get(KEY)

    def refuse(file):
        raise AssertionError("checked again")

    monkeypatch.setattr(lmdb_reader, "check_pages", refuse)
    gc.collect()
    assert LmdbReader(folder).get(KEY)
    os.utime(folder / "data.mdb", (1, 1))
    gc.collect()
    with pytest.raises(AssertionError):
        LmdbReader(folder).get(KEY)


# What liblmdb must not see


def test_every_truncation_is_refused(folder):
    content = (folder / "data.mdb").read_bytes()
    for size in [0, 1, 100, 4095, 4096, 4097, *range(8192, len(content), 4096), len(content) - 1]:
        (folder / "data.mdb").write_bytes(content[:size])
        with pytest.raises(DatasetError, match=r"part-4/data\.mdb: .*download or write it again"):
            LmdbReader(folder).get(KEY)


def test_a_file_of_another_kind_is_refused(folder):
    (folder / "data.mdb").write_text("version https://git-lfs.github.com/spec/v1\n" * 500)
    with pytest.raises(DatasetError, match="no LMDB file"):
        LmdbReader(folder).get(KEY)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"data\.mdb: it cannot be opened: .*No such file"):
        LmdbReader(tmp_path).get(KEY)
    (tmp_path / "data.mdb").mkdir()
    with pytest.raises(DatasetError, match=r"data\.mdb: "):
        LmdbReader(tmp_path).get(KEY)


def write(folder, items, **options):
    folder.mkdir()
    with lmdb.open(str(folder), map_size=2**28, **options) as environment, environment.begin(write=True) as transaction:
        for key, value in items:
            transaction.put(key, value)


@pytest.mark.parametrize("count", [0, 1, 50, 3000, 40_000])
def test_trees_of_every_depth_pass(tmp_path, count):
    items = [(b"(%d, %d)" % (number // 100, number % 100 * 32), bytes(number % 20 * 300)) for number in range(count)]
    write(tmp_path / "part", items)
    check_pages(tmp_path / "part" / "data.mdb")
    reader = LmdbReader(tmp_path / "part")
    assert len(reader) == count
    assert sorted(reader.keys()) == sorted(key for key, _ in items)


def test_a_tree_that_was_rewritten_often_passes(tmp_path):
    folder = tmp_path / "part"
    write(folder, [])
    with lmdb.open(str(folder), map_size=2**28) as environment:
        for number in range(300):
            with environment.begin(write=True) as transaction:
                transaction.put(b"%d" % (number % 40), bytes(number * 37 % 9000))
                transaction.delete(b"%d" % (number * 7 % 40))
    check_pages(folder / "data.mdb")


def test_a_file_with_inner_databases_is_refused(tmp_path):
    write(tmp_path / "part", [(b"key", b"value")], max_dbs=1)
    with lmdb.open(str(tmp_path / "part"), max_dbs=1, map_size=2**20) as environment:
        environment.open_db(b"inner")
    with pytest.raises(DatasetError, match="is damaged"):
        LmdbReader(tmp_path / "part").get(b"key")


def damaged(tmp_path, golden, seed, count):
    files = [golden / "dataset" / "action" / "part-4" / "data.mdb", golden / "dataset" / "event" / "data.mdb"]
    write(tmp_path / "deep", [(b"%d" % number, b"x" * 50) for number in range(500)])
    arguments = [str(tmp_path), str(seed), str(count), *map(str, files), str(tmp_path / "deep" / "data.mdb")]
    result = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_no_damaged_file_ends_the_process(tmp_path, golden):
    ends = damaged(tmp_path, golden, seed=0, count=300)
    assert set(ends) == {"0", "1"}, ends
    assert ends["1"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_damaged_file_ends_the_process_at_length(tmp_path, golden, seed):
    ends = damaged(tmp_path, golden, seed, count=3000)
    assert set(ends) == {"0", "1"}, ends


def test_the_damages_end_a_process_that_does_not_check(tmp_path, golden):
    # Else the test above shows nothing.
    content = (golden / "dataset" / "action" / "part-4" / "data.mdb").read_bytes()
    (tmp_path / "data.mdb").write_bytes(content[: len(content) // 2])
    code = (
        "import lmdb, sys; environment = lmdb.open(sys.argv[1], readonly=True, lock=False)\n"
        "with environment.begin() as transaction: [bytes(value) for _, value in transaction.cursor()]"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert result.returncode < 0

"""AtomicCheckpointIO: whole files or none, little memory, nothing that runs code."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mscore import AtomicCheckpointIO
from mscore.offline import checkpoint_io


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_round_trip_in_a_new_folder(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "a" / "x.ckpt"
    io.save_checkpoint({"state_dict": {"w": torch.arange(3)}}, path)
    assert io.load_checkpoint(path)["state_dict"]["w"].tolist() == [0, 1, 2]
    io.save_checkpoint({"global_step": 2}, str(path))
    assert io.load_checkpoint(str(path)) == {"global_step": 2}
    assert names(path.parent) == {"x.ckpt"}
    io.remove_checkpoint(path)
    assert names(path.parent) == set()


def test_only_tensors_and_plain_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    for asked in (None, False, True):
        with pytest.raises(Exception, match=r"(?i)weights.only") as caught:
            AtomicCheckpointIO().load_checkpoint(path, weights_only=asked)
        assert any("x.ckpt" in note for note in caught.value.__notes__)
    with pytest.raises(FileNotFoundError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")


def test_a_failed_save_leaves_the_previous_file(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "x.ckpt"
    io.save_checkpoint({"global_step": 1}, path)
    with pytest.raises(Exception, match=r"(?i)pickle"):
        io.save_checkpoint({"global_step": 2, "bad": lambda: None}, path)
    assert io.load_checkpoint(path) == {"global_step": 1}
    assert names(tmp_path) == {"x.ckpt"}


class FullDisk:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return int(self.file.fileno())


@pytest.mark.parametrize("room", [10, 2000, 100_000])
def test_a_full_disk_is_told_and_the_previous_file_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "x.ckpt"
    io.save_checkpoint({"global_step": 1}, path)

    def open_on_full_disk(name: Path, mode: str) -> FullDisk:
        return FullDisk(open(name, mode), room)

    monkeypatch.setattr(checkpoint_io, "open", open_on_full_disk, raising=False)
    with pytest.raises(OSError, match=r"no space left for checkpoint .*previous x\.ckpt is intact") as caught:
        io.save_checkpoint({"w": torch.zeros(100_000)}, path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert io.load_checkpoint(path) == {"global_step": 1}
    assert names(tmp_path) == {"x.ckpt"}


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".x.ckpt.tmp-{dead.pid}", f".y-EMA.ckpt.tmp-{os.getpid()}", f".z.ckpt.tmp-{os.getppid()}"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".notes.tmp").write_text("someone's")
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "x.ckpt")
    assert names(tmp_path) == {"x.ckpt", ".notes.tmp", f".z.ckpt.tmp-{os.getppid()}"}


def test_files_saved_together_appear_together(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    with io.saved_together():
        io.save_checkpoint({"n": 1}, tmp_path / "a.ckpt")
        AtomicCheckpointIO().save_checkpoint({"n": 0}, tmp_path / "other.ckpt")
        io.save_checkpoint({"n": 2}, tmp_path / "b.ckpt")
        assert {name for name in names(tmp_path) if not name.startswith(".")} == {"other.ckpt"}
    assert names(tmp_path) == {"a.ckpt", "b.ckpt", "other.ckpt"}

    def save_and_fail() -> None:
        with io.saved_together():
            io.save_checkpoint({"n": 3}, tmp_path / "a.ckpt")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        save_and_fail()
    assert io.load_checkpoint(tmp_path / "a.ckpt") == {"n": 1}
    assert names(tmp_path) == {"a.ckpt", "b.ckpt", "other.ckpt"}


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"n": 1}, tmp_path / "a.ckpt")
    (tmp_path / "last.ckpt").symlink_to("a.ckpt")
    io.save_checkpoint({"n": 2}, tmp_path / "last.ckpt")
    assert io.load_checkpoint(tmp_path / "a.ckpt") == {"n": 1}


def test_other_file_systems_are_left_to_lightning() -> None:
    io, path = AtomicCheckpointIO(), "memory://mscore/x.ckpt"
    io.save_checkpoint({"n": 1}, path)
    assert io.load_checkpoint(path) == {"n": 1}
    with pytest.raises(TypeError, match="storage_options"):
        io.save_checkpoint({}, "x.ckpt", storage_options={})


def test_saving_takes_no_memory_of_the_checkpoints_size(tmp_path: Path) -> None:
    program = (
        "import resource, torch, sys\n"
        "from mscore import AtomicCheckpointIO\n"
        "io = AtomicCheckpointIO(); tensors = {str(i): torch.ones(10**7) for i in range(8)}\n"
        "io.save_checkpoint({}, sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "io.save_checkpoint(tensors, sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.ckpt")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 64 * 1024  # KiB; the file has 320 MB

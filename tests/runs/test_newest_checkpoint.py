"""A run goes on from the newest full checkpoint in its directory, whoever wrote it."""

import pytest
import torch

from mscore.errors import MscoreError
from mscore.runs.directory import create, find_run, last_checkpoint


def save(path, step, full=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step, "state_dict": {}, **({"optimizer_states": []} if full else {})}, path)
    return path


def test_the_most_steps_win_wherever_they_lie(tmp_path):
    assert last_checkpoint(tmp_path) is None
    last = save(tmp_path / "checkpoints" / "last.ckpt", 10)
    assert last_checkpoint(tmp_path) == last
    named = save(tmp_path / "elsewhere" / "ckpt-step=15.ckpt", 15)
    save(tmp_path / "elsewhere" / "ckpt-step=15-EMA.ckpt", 15)
    save(tmp_path / "weights" / "step=20.ckpt", 20, full=False)
    save(tmp_path / "stages" / "1-a" / "checkpoints" / "last.ckpt", 99)
    assert last_checkpoint(tmp_path) == named


def test_a_file_that_cannot_be_read_is_left_out(tmp_path):
    good = save(tmp_path / "checkpoints" / "good.ckpt", 5)
    broken = save(tmp_path / "checkpoints" / "last.ckpt", 9)
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read and is left out"):
        assert last_checkpoint(tmp_path) == good


def test_latest_leads_to_the_newest_run(tmp_path, monkeypatch):
    monkeypatch.delenv("MSCORE_RUN_DIR", raising=False)
    monkeypatch.setenv("MSCORE_RUN_DIR", "")
    for _ in range(2):
        newest = create("demo", tmp_path)
        (newest / "config.yaml").write_text("name: demo\n")
    assert find_run(tmp_path / "demo" / "latest") == newest
    (newest / "run.json").write_text("{}")
    with pytest.raises(MscoreError, match=newest.name) as caught:
        find_run(tmp_path / "demo")
    assert "demo/latest" not in str(caught.value)

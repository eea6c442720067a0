"""Runs whose components come from a single file: every process finds it, and so does a resumed run."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SITE = Path(__file__).parent / "tiny_site"

FILE = '''
import torch
from mscore import ObjectiveCallback, hookimpl
from mscore_plugin_tiny.data import TinyData
from torch.utils.data import DataLoader, Dataset


@hookimpl
def mscore_objectives():
    return {"focal": "my_parts:Focal"}


@hookimpl
def mscore_datamodules():
    return {"spawning": "my_parts:Spawning"}


class Focal(ObjectiveCallback):
    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logprob = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        return {"loss": -((1 - logprob.exp()) ** 2 * logprob).mean()}


class Wrapped(Dataset):
    """A class of this file, so that a worker has to import the file to get it."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Spawning(TinyData):
    def train_dataloader(self):
        batches = [batch for _, batch in zip(range(4), super().train_dataloader())]
        return DataLoader(
            Wrapped(batches), batch_size=None, num_workers=1, multiprocessing_context="spawn", collate_fn=None
        )
'''
CONFIG = "defaults: [tiny]\nname: filed\nobjectives: {imitate: null, focal: {}}\n"
SHORT = ["trainer.max_steps=2", "trainer.val_check_interval=2"]


@pytest.fixture
def mscore(tmp_path):
    """Run mscore in an empty folder that holds a config; the plugin file lies in another folder."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "my_parts.py").write_text(FILE)
    work = tmp_path / "work"
    work.mkdir()
    (work / "filed.yaml").write_text(CONFIG)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}

    def run(*arguments, launcher=("-m", "mscore"), code=0):
        done = subprocess.run(
            [sys.executable, *launcher, *map(str, arguments)],
            cwd=work,
            env={**kept, "PYTHONPATH": str(SITE), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def file(tmp_path):
    return tmp_path / "files" / "my_parts.py"


@pytest.fixture
def directory(tmp_path):
    """The one run's directory."""
    return lambda: next(path for path in (tmp_path / "work" / "runs" / "filed").iterdir() if not path.is_symlink())


def test_a_run_records_its_file_takes_it_along_and_says_when_it_changed(mscore, file, directory):
    done = mscore("run", "filed.yaml", "--plugin-file", "../files/my_parts.py", *SHORT)
    assert "my_parts (file)" in done.stdout
    record = json.loads((directory() / "run.json").read_text())
    (mine,) = [plugin for plugin in record["plugins"] if plugin["plugin"] == "my_parts"]
    assert mine == {
        "plugin": "my_parts",
        "distribution": "my_parts",
        "version": "",
        "source": str(file),
        "editable": False,
        "sha256": hashlib.sha256(FILE.encode()).hexdigest(),
        "file": str(file),
        "used_for": ["objectives.focal"],
    }
    assert record["order"]["objectives"] == ["focal"]
    assert record["order"]["callbacks"] == []
    assert [name for name in record["order"]["plugins"] if name in ("bc", "tiny", "my_parts")] == [
        *("bc", "tiny", "my_parts")
    ]
    saved = torch.load(directory() / "checkpoints" / "last.ckpt", weights_only=True)
    assert mine in saved["hyper_parameters"]["mscore"]["plugins"]

    assert "changed" not in mscore("run", "--resume", directory(), "trainer.max_steps=3").stderr
    file.write_text(FILE + "\n# another thought\n")
    done = mscore("run", "--resume", directory(), "trainer.max_steps=4")
    assert f"the plugin file {file} has changed" in done.stderr

    elsewhere = file.parent.parent / "my_parts.py"
    file.rename(elsewhere)
    done = mscore("run", "--resume", directory(), "trainer.max_steps=5", code=1)
    assert done.stderr.count("\n") == 1
    assert f"the plugin file {file} of this run is not there any more" in done.stderr
    assert "--plugin-file PATH/my_parts.py" in done.stderr
    done = mscore("run", "--resume", directory(), "trainer.max_steps=5", "--plugin-file", elsewhere)
    assert "5 steps" in done.stdout


def test_a_checkpoint_does_not_get_to_name_the_file_that_is_imported(mscore, file, directory):
    file.write_text(
        FILE + "\n\n@hookimpl\ndef mscore_policies():\n    return {'mine': 'mscore_plugin_tiny.policy:TinyPolicy'}\n"
    )
    mscore("run", "filed.yaml", "policy=mine", "--plugin-file", file, *SHORT)
    load = "import sys, mscore; print(type(mscore.load_policy(sys.argv[1])).__name__)"
    assert mscore(directory(), launcher=("-c", load)).stdout == "TinyPolicy\n"
    mscore("evaluate", directory(), "--episodes", 1, "--no-video")
    checkpoint = directory() / "checkpoints" / "last.ckpt"
    assert f"add --plugin-file {file}" in mscore(checkpoint, launcher=("-c", load), code=1).stderr
    assert f"add --plugin-file {file}" in mscore("export", checkpoint, "--to", "out", code=1).stderr
    mscore("export", checkpoint, "--to", "out", "--plugin-file", file)


def test_a_broken_file_stops_a_run_at_once(mscore, file):
    file.write_text("x = (\n")
    done = mscore("run", "tiny", "--plugin-file", file, code=2)
    assert (
        done.stderr
        == f"error: plugin 'my_parts' (my_parts.py) is broken: {file}:1: SyntaxError: '(' was never closed\n"
    )
    assert f"{file}:1" in mscore("plugins", "--plugin-file", file).stdout


def test_data_workers_that_are_spawned_import_the_file(mscore, file, directory):
    mscore("run", "filed.yaml", "data=spawning", "--plugin-file", file, *SHORT)
    assert "train/focal/loss" in (directory() / "metrics.csv").read_text()


TWO = ["trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true"]


def test_two_processes_that_lightning_starts(mscore, file, directory):
    done = mscore("run", "filed.yaml", "--plugin-file", "../files/my_parts.py", *SHORT, *TWO)
    assert "MEMBER: 2/2" in done.stdout + done.stderr
    assert json.loads((directory() / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_two_processes_go_on_with_the_file_that_was_recorded(mscore, file, directory):
    mscore("run", "filed.yaml", "--plugin-file", file, *SHORT, *TWO)
    done = mscore("run", "--resume", directory(), "trainer.max_steps=4")
    assert "4 steps" in done.stdout


@pytest.mark.slow
def test_two_processes_under_torchrun(mscore, file, directory):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mscore")
    mscore("run", "filed.yaml", "--plugin-file", file, *SHORT, *TWO, launcher=launcher)
    assert json.loads((directory() / "run.json").read_text())["status"] == "finished"

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TINY_SITE = Path(__file__).parents[1] / "runs" / "tiny_site"
SMALL = ("tiny", "trainer.max_steps=4")


def only_run(folder, name="tiny"):
    return (folder / "runs" / name / "latest").resolve()


def test_a_run_says_what_was_learned_where_it_is_and_what_to_type_next(cli, tmp_path):
    code, out, _ = cli("run", *SMALL)
    assert code == 0
    directory = f"runs/tiny/{only_run(tmp_path).name}"
    lines = out.splitlines()
    assert lines[0] == "mscore 0.1.0 | plugins: tiny 0.1.0"
    assert lines[1] == f"run directory: {directory}"
    assert any(line.startswith("train/loss") for line in lines)
    assert lines[-4:] == [
        "next:",
        f"  mscore evaluate {directory}",
        f"  mscore export {directory} --to DIR",
        f"  mscore run --resume {directory} trainer.max_steps=N",
    ]


def test_a_run_is_resumed_from_its_directory_alone(cli, tmp_path):
    cli("run", *SMALL)
    directory = only_run(tmp_path)
    code, out, _ = cli("run", "--resume", directory, "trainer.max_steps=6")
    assert code == 0
    assert "finished, 6 steps" in out
    assert cli("run", "--resume", "runs/tiny")[0] == 1


MISTAKES = {
    "a typo in an override": ("run", "tiny", "objectives.imitate.wieght=0.5"),
    "a file that is not there": ("run", "nothere.yaml"),
    "an unknown recipe": ("run", "tinny"),
    "a YAML error": ("run", "broken.yaml"),
    "an interpolation that does not resolve": ("run", "tiny", "name=${nothing}"),
    "a wrong type": ("run", "tiny", "policy.hiddim=wide"),
    "an unknown section": ("run", "tiny", "trianer.max_steps=3"),
}
SAID = {
    "a typo in an override": "objectives.imitate.wieght.*Did you mean 'weight'|objectives.imitate.weight",
    "a file that is not there": "there is no file nothere.yaml",
    "an unknown recipe": "Did you mean 'tiny'",
    "a YAML error": r"broken.yaml:\d",
    "an interpolation that does not resolve": "name.*nothing",
    "a wrong type": "policy.hiddim: found 'wide'.*expected",
    "an unknown section": "trianer.*Did you mean 'trainer'",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_written(cli, tmp_path, mistake):
    (tmp_path / "broken.yaml").write_text("policy: {use: tiny\ndata: [")
    code, out, err = cli(*MISTAKES[mistake])
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(SAID[mistake], err), err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]


def test_all_mistakes_are_said_at_once(cli):
    _, _, err = cli("run", "tiny", "objectives.imitate.wieght=1", "policy.hidim=2", "trainer.max_step=3")
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize("arguments", [["run"], ["run", "trainer.max_steps=3"], ["run", "--resume", "x", "--dry-run"]])
def test_a_command_that_makes_no_sense_is_exit_code_2(cli, arguments):
    assert cli(*arguments)[0] == 2


def test_an_exception_of_a_plugin_is_named_with_its_place(cli):
    code, _, err = cli("run", *SMALL, "callbacks.saboteur.step=2")
    assert code == 1
    assert "error: ZeroDivisionError: sabotage" in err.splitlines()
    place = r"raised in .*faults.py:\d+ in on_train_batch_end \(mscore-plugin-tiny 0.1.0\)"
    assert re.search(place, err)
    assert 'raise ZeroDivisionError("sabotage")' not in err


@pytest.mark.parametrize("where", [["--traceback", "run", *SMALL], ["run", *SMALL, "--traceback"]])
def test_its_traceback_is_shown_when_asked_for(cli, where):
    code, _, err = cli(*where, "callbacks.saboteur.step=2")
    assert code == 1
    assert 'raise ZeroDivisionError("sabotage")' in err


def test_a_dry_run_builds_everything_and_keeps_nothing(cli, tmp_path):
    code, out, _ = cli("run", *SMALL, "--dry-run", "evaluation.episodes=2")
    assert code == 0
    assert re.search(r"parameters +70 \(67 trained\)", out)
    assert re.search(r"step +[\d.]+ ms", out)
    assert re.search(r"checkpoint +[\d.]+ MB", out)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_goes_through_all_stages(cli, tmp_path):
    config = "defaults: [tiny]\nstages: [{name: warm}, {name: main, init_from: previous}]\n"
    (tmp_path / "two.yaml").write_text(config)
    _, out, _ = cli("run", "two.yaml", "--dry-run")
    assert "warm: everything can be built" in out
    assert "main: everything can be built" in out


def test_a_dry_run_finds_mistakes(cli):
    assert cli("run", "tiny", "policy.hidim=3", "--dry-run")[0] == 2


def test_export_and_evaluate(cli, tmp_path):
    cli("run", *SMALL)
    directory = only_run(tmp_path)
    code, out, _ = cli("export", directory, "--to", "out")
    assert (code, out.splitlines()[0]) == (0, "wrote out/model.safetensors and out/config.json")
    assert cli("export", directory, "--to", "out")[0] == 1
    code, _, err = cli("export", directory, "--ema", "--to", "out2")
    assert (code, "holds no averaged weights" in err) == (1, True)
    code, out, _ = cli("evaluate", directory, "--episodes", "2", "--no-video")
    assert (code, "(2 episodes)" in out) == (0, True)
    code, out, _ = cli("evaluate", directory, "--episodes", "2", "--no-video", "--sample", "--seed", "7", "--json")
    found = json.loads(out)
    assert [episode["seed"] for episode in found["results"]] == [7, 8]
    assert found["settings"] == {"episodes": 2, "deterministic": False, "seed": 7}


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mscore", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TINY_SITE), "MSCORE_PLUGINS": "tiny"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_training(process, folder):
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/tiny/*/metrics.csv")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_is_saved_and_says_how_to_go_on(tmp_path, sent):
    process = start(tmp_path, "run", "tiny", "trainer.max_steps=1000000", "trainer.val_check_interval=1.0")
    wait_for_training(process, tmp_path)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    directory = only_run(tmp_path)
    assert process.returncode == 75
    assert f"to go on: mscore run --resume runs/tiny/{directory.name}" in err
    assert "Traceback" not in err
    step = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step > 0
    assert json.loads((directory / "run.json").read_text())["status"] == "interrupted"


def test_ctrl_c_before_training_is_one_line(cli, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mscore.runs.training.prepare", interrupted)
    assert cli("run", "tiny") == (130, "", "\nstopped by Ctrl-C\n")


@pytest.mark.slow
def test_two_processes_share_one_directory_are_killed_and_resumed(mscore):
    two = ["trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true", "trainer.val_check_interval=4"]
    fault = ["trainer.checkpoint_every_n_steps=1", "callbacks.saboteur.step=2", "callbacks.saboteur.how=kill"]
    done = mscore("run", *SMALL, *two, *fault)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.count("run directory:") == 1
    done = mscore("run", "--resume", "runs/tiny/latest")
    assert done.returncode == 0, done.stderr
    assert "finished, 4 steps" in done.stdout
    assert done.stdout.count("run directory:") == 1


@pytest.mark.parametrize(
    "ranks", [[1], pytest.param([0], marks=pytest.mark.slow), pytest.param([0, 1], marks=pytest.mark.slow)]
)
def test_two_processes_stop_after_the_same_step_whoever_is_asked(mscore, ranks):
    """Lightning's own answer to SIGTERM lets two processes wait for each other forever."""
    two = ["trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true", "trainer.val_check_interval=4"]
    faults = [
        f"callbacks.asked-{rank}={{use: saboteur, step: {3 + rank}, how: terminate, marker: sent-{rank}, rank: {rank}}}"
        for rank in ranks
    ]
    done = mscore("run", *SMALL, *two, *faults, "trainer.max_steps=40")
    assert done.returncode == 75, done.stderr
    assert re.search(r"the run was asked to stop at step [456]; to go on", done.stderr), done.stderr
    done = mscore("run", "--resume", "runs/tiny/latest")
    assert done.returncode == 0, done.stderr
    assert "finished, 40 steps" in done.stdout

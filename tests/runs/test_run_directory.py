import json
import re

import pytest

from mscore.errors import MscoreError
from mscore.runs import directory as layout


@pytest.fixture(autouse=True)
def nobody_launched_us(monkeypatch, tmp_path):
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_JOB_NAME", "SLURM_STEP_ID"]
    for name in [*names, "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "JSM_NAMESPACE_RANK"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(layout.DIRECTORY_VARIABLE, "")
    monkeypatch.chdir(tmp_path)


def test_a_run_gets_a_directory_named_by_the_time(tmp_path):
    directory = layout.create("groot")
    assert directory.parent == tmp_path / "runs" / "groot"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", directory.name)
    assert directory.is_dir()


def test_runs_of_the_same_second_get_directories_of_their_own():
    assert len({layout.create("groot") for _ in range(5)}) == 5


def test_a_rank_that_lightning_starts_uses_its_parents_directory(monkeypatch):
    directory = layout.create("groot")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert layout.create("groot") == directory


def test_rank_zero_never_uses_a_directory_that_an_earlier_run_left_in_the_environment(monkeypatch):
    first = layout.create("groot")
    monkeypatch.setenv("LOCAL_RANK", "0")  # Lightning leaves it behind
    assert layout.create("groot") != first


@pytest.mark.parametrize(
    "job",
    [
        {"TORCHELASTIC_RUN_ID": "abc", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        {"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"},
    ],
)
def test_ranks_of_one_launch_agree_without_talking(monkeypatch, job):
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    rank = "SLURM_PROCID" if "SLURM_JOB_ID" in job else "RANK"
    monkeypatch.setenv(rank, "1")
    further = layout.create("groot")
    monkeypatch.setenv(rank, "0")
    assert layout.create("groot") == further


def test_a_restarted_job_has_another_directory(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "abc")
    first = layout.create("groot")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert layout.create("groot").name == "torchrun-abc-1" != first.name


def test_torchrun_on_several_nodes_needs_an_id(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MscoreError, match="--rdzv-id"):
        layout.create("groot")


def test_an_interactive_slurm_shell_is_one_process(monkeypatch):
    shell = {"SLURM_JOB_NAME": "bash", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    assert re.match(r"\d{4}-", layout.create("groot").name)


def test_where_nothing_can_be_written_is_said(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(MscoreError, match="cannot make the run's directory"):
        layout.create("groot")


def test_what_is_no_run_is_said_with_the_runs_in_it(tmp_path):
    with pytest.raises(MscoreError, match="does not exist"):
        layout.find_run("runs/nothing")
    directory = layout.create("groot")
    (directory / "run.json").write_text("{}")
    with pytest.raises(MscoreError, match=f"runs/groot is not a run's directory.*runs/groot/{directory.name}"):
        layout.find_run("runs/groot")


def test_stages_are_found_in_their_order(tmp_path):
    for number in (10, 2, 1):
        folder = tmp_path / "stages" / f"{number}-x"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("")
    assert [folder.name for folder in layout.stage_directories(tmp_path)] == ["1-x", "2-x", "10-x"]


def test_a_record_is_replaced_whole(tmp_path):
    layout.write_record(tmp_path, {"status": "running"})
    layout.write_record(tmp_path, {"status": "finished"})
    assert json.loads((tmp_path / "run.json").read_text()) == layout.read_record(tmp_path) == {"status": "finished"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]

"""What the pages say about writing plugins works: the files are taken from them, installed and used by name."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from mscore import hookspecs

SHORT = ["trainer.accelerator=cpu", "evaluation.episodes=2"]


def write_package(blocks, folder: Path) -> Path:
    """Write the files that blocks name; parts of one file follow each other."""
    for block in blocks:
        if block.file is None:
            continue
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(block.text)
    assert (folder / "pyproject.toml").exists()
    return folder


def install(package: Path, site: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, package], check=True)


@pytest.fixture
def mscore(tmp_path):
    """Runs ``mscore`` in an empty folder, with what lies in ``site`` installed."""
    (tmp_path / "work").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    environment = {
        **kept,
        "PYTHONPATH": str(tmp_path / "site"),
        "OMP_NUM_THREADS": "1",
        "MSCORE_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "160",
    }

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mscore", *map(str, arguments)],
            cwd=tmp_path / "work",
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_readme_plugin_is_installed_and_trains(blocks, mscore, tmp_path):
    install(write_package(blocks("README.md"), tmp_path / "focal"), tmp_path / "site")
    listed = {one["plugin"]: one for one in json.loads(mscore("plugins", "--json"))["plugins"]}
    assert listed["focal"]["components"] == {"objective": ["focal"]}
    assert not listed["focal"]["heavy"]
    (command,) = [
        command for block in blocks("README.md") for command in block.commands() if "objectives.focal" in str(command)
    ]
    overrides = ["trainer.max_steps=2", "data.episodes=8", "data.batch_size=4", "data.processes=1", "name=readme"]
    mscore(*command, *overrides, *SHORT)
    (run,) = (tmp_path / "work" / "runs" / "readme").glob("2*")
    record = json.loads((run / "run.json").read_text())
    assert "objectives.focal" in [path for one in record["plugins"] for path in one["used_for"]]
    assert "train/focal/loss" in (run / "metrics.csv").read_text()


def test_the_readme_plugin_has_about_ten_lines(blocks):
    code = "".join(block.text for block in blocks("README.md") if block.file and block.language == "python")
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 14


def test_the_package_of_the_page_provides_every_kind_and_trains(blocks, mscore, tmp_path):
    page = blocks("docs/write-a-plugin.md")
    package = write_package(page, tmp_path / "lab")
    install(package, tmp_path / "site")
    described = json.loads(mscore("plugins", "show", "lab", "--json"))[0]
    assert described["status"] == "ok", described["reason"]
    assert set(described["components"]) == set(hookspecs.KIND_OF_HOOK.values())
    assert not described["heavy"]

    said = mscore("run", "corridor", "trainer.accelerator=cpu")
    assert "lab: corridor has 2 objectives" in said
    (run,) = (tmp_path / "work" / "runs" / "corridor").glob("2*")
    assert (run / "lab.txt").read_text() == "started\nfinished\n"
    assert "train/entropy/nats" in said  # the logger prints it
    assert "gradient_norm" in said
    assert "success" in mscore("evaluate", run, "--episodes", 4, "--no-video")

    (tmp_path / "work" / "bare.yaml").write_text(
        "{policy: gru, data: walks, environment: corridor, objectives: {bc: {}}, "
        "trainer: {use: plain-loop, max_steps: 3}}"
    )
    mscore("run", "bare.yaml")
    (bare,) = (tmp_path / "work" / "runs" / "bare").glob("2*")
    mscore("run", "--resume", bare, "trainer.max_steps=5")
    assert torch.load(bare / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    mscore("export", bare, "--to", tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").exists()

    assert mscore("lab", "draw", "--length", 4) == "A...X\n"

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout


def test_every_hook_is_documented_with_its_arguments(root):
    page = (root / "docs" / "write-a-plugin.md").read_text()
    for name in hookspecs.hook_names():
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"| `{name}({arguments})` |" in page, name
        assert re.search(rf"^@hookimpl\ndef {name}\({arguments}\):", page, re.MULTILINE), name
    mentioned = set(re.findall(r"\bmscore_(?!plugin_)\w+", page))
    assert mentioned == set(hookspecs.hook_names())


def test_the_policy_of_the_page_forgets_where_an_episode_starts(blocks, tmp_path, monkeypatch):
    package = write_package(blocks("docs/write-a-plugin.md"), tmp_path / "lab")
    monkeypatch.syspath_prepend(str(package))
    from mscore_plugin_lab.policy import GRUPolicy

    observations = spaces.Dict({"position": spaces.Box(0, 1, (2,))})
    policy = GRUPolicy(observation_space=observations, action_space=spaces.Discrete(3))
    frames = torch.rand(2, 6, 2)
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[:, 0] = first[1, 3] = True
    whole, _ = policy({"position": frames, "first": first})
    left, state = policy({"position": frames[:, :4], "first": first[:, :4]})
    right, _ = policy({"position": frames[:, 4:], "first": first[:, 4:]}, state)
    alone, _ = policy({"position": frames[1:, 3:], "first": first[1:, 3:]})
    together = torch.cat([left["pi_logits"], right["pi_logits"]], dim=1)
    torch.testing.assert_close(whole["pi_logits"], together)
    torch.testing.assert_close(whole["pi_logits"][1:, 3:], alone["pi_logits"])

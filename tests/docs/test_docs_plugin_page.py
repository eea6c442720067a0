"""What the pages say about writing plugins works: the files are taken from them, installed and used by name."""

import inspect
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from mscore import hookspecs
from mscore.plugins import PluginSet

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


def command_line(folder: Path):
    """Runs ``mscore`` in an empty folder ``work``, with what lies in ``site`` installed."""
    (folder / "work").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    environment = {
        **kept,
        "PYTHONPATH": str(folder / "site"),
        "OMP_NUM_THREADS": "1",
        "MSCORE_CACHE": str(folder / "cache"),
        "COLUMNS": "160",
    }

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mscore", *map(str, arguments)],
            cwd=folder / "work",
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def mscore(tmp_path):
    return command_line(tmp_path)


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


# --- the pages on hooks build one package, which is installed and trained with ----------------------


def hook_page(root: Path, name: str) -> Path:
    return root / "docs" / "plugins" / "hooks" / f"{name}.md"


class Lab:
    """The package of the pages, installed, and a run of its recipe."""

    def __init__(self, blocks, root: Path, folder: Path) -> None:
        self.folder = folder
        pages = [hook_page(root, name) for name in ("index", *hookspecs.hook_names())]
        self.package = write_package([block for page in pages for block in blocks(page)], folder / "lab")
        install(self.package, folder / "site")
        self.mscore = command_line(folder)
        self.said = self.mscore("run", "corridor", "trainer.accelerator=cpu")
        (self.run,) = (folder / "work" / "runs" / "corridor").glob("2*")
        plugins = {one["plugin"]: one for one in json.loads((self.run / "run.json").read_text())["plugins"]}
        self.used_for = set(plugins["lab"]["used_for"])


@pytest.fixture(scope="module")
def lab(blocks, root, tmp_path_factory):
    return Lab(blocks, root, tmp_path_factory.mktemp("lab"))


def test_the_package_of_the_pages_provides_every_kind(lab):
    (described,) = json.loads(lab.mscore("plugins", "show", "lab", "--json"))
    assert described["status"] == "ok", described["reason"]
    assert set(described["components"]) == set(hookspecs.KIND_OF_HOOK.values())
    assert not described["heavy"]


def test_mscore_objectives(lab):
    assert "objectives.entropy" in lab.used_for
    assert "train/entropy/nats" in lab.said
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=lab.package,
        env={**os.environ, "PYTHONPATH": str(lab.folder / "site")},
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout


def test_mscore_callbacks(lab):
    assert "callbacks.gradient-norm" in lab.used_for
    assert "gradient_norm" in lab.said


def test_mscore_datamodules(lab):
    assert "data" in lab.used_for


def test_mscore_environments(lab):
    assert "environment" in lab.used_for
    assert "success" in lab.mscore("evaluate", lab.run, "--episodes", 4, "--no-video")


def test_mscore_trainers(lab):
    work = lab.folder / "work"
    (work / "bare.yaml").write_text(
        "{policy: gru, data: walks, environment: corridor, objectives: {bc: {}}, "
        "trainer: {use: plain-loop, max_steps: 3}}"
    )
    lab.mscore("run", "bare.yaml")
    (bare,) = (work / "runs" / "bare").glob("2*")
    lab.mscore("run", "--resume", bare, "trainer.max_steps=5")
    assert torch.load(bare / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    lab.mscore("export", bare, "--to", lab.folder / "exported")
    assert (lab.folder / "exported" / "model.safetensors").exists()


def test_mscore_optimizers(lab, monkeypatch):
    assert "optimizer" in lab.used_for
    monkeypatch.syspath_prepend(str(lab.package))
    from mscore_plugin_lab.optimizer import SignSGD

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    (3 * weight).sum().backward()
    SignSGD([weight], learning_rate=0.5).step()
    assert weight.tolist() == [0.5, -2.5]


def test_mscore_schedulers(lab):
    assert "scheduler" in lab.used_for


def test_mscore_loggers(lab):
    assert "loggers.print" in lab.used_for
    assert re.search(r"^\d+ \{.*train/loss", lab.said, re.MULTILINE)


def test_mscore_recipes(lab):
    (corridor,) = [line for line in lab.mscore("recipes").splitlines() if line.startswith("corridor")]
    assert "Walk to the right" in corridor


def test_mscore_commands(lab):
    assert lab.mscore("lab", "draw", "--length", 4) == "A...X\n"


def test_mscore_run_configured(lab):
    assert "lab: corridor has 2 objectives" in lab.said


def test_mscore_run_started(lab):
    assert (lab.run / "lab.txt").read_text().startswith("started\n")


def test_mscore_run_finished(lab):
    assert (lab.run / "lab.txt").read_text().endswith("finished\n")


def test_mscore_policies(lab, monkeypatch):
    """Its policy forgets where an episode starts, as the page says."""
    assert "policy" in lab.used_for
    monkeypatch.syspath_prepend(str(lab.package))
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


@pytest.mark.parametrize("name", hookspecs.hook_names())
def test_every_hook_has_a_page_with_its_signature_an_example_and_a_test(name, root):
    spec = getattr(hookspecs, name)
    page = hook_page(root, name).read_text()
    assert page.startswith(f"# `{signature(spec)}`\n"), f"the heading has to be {signature(spec)}"
    arguments = ", ".join(inspect.signature(spec).parameters)
    assert re.search(rf"^@hookimpl\ndef {name}\({arguments}\):", page, re.MULTILINE)
    assert "**Returns**" in page
    assert set(re.findall(r"\bmscore_(?!plugin_)\w+", page)) <= set(hookspecs.hook_names())
    assert f"| [`{name}({arguments})`]({name}.md) |" in hook_page(root, "index").read_text()
    assert f"test_{name}" in globals(), "a test that is named for the hook"


def signature(spec) -> str:
    """A hook's signature as a heading has it: types without quotes and with the names that authors know."""
    return spec.__name__ + str(inspect.signature(spec)).replace("collections.abc.", "").replace("'", "")


def test_there_is_no_page_for_a_hook_that_does_not_exist(root):
    pages = {path.stem for path in hook_page(root, "index").parent.glob("*.md")} - {"index"}
    assert pages == set(hookspecs.hook_names())


def test_the_mistakes_of_the_page_are_answered_as_it_says(root):
    table = hook_page(root, "index").read_text().partition("| in the module |")[2].partition("\n\n")[0]
    said = [row.split(" | ")[1].removesuffix(" |") for row in table.splitlines()[2:]]
    said = [text for text in said if not text.startswith("entry point")]
    for code, expected in zip(MISTAKES, said, strict=True):
        module = types.ModuleType("mscore_plugin_lab")
        exec(code, vars(module))
        assert PluginSet(discover=False).add_module(module, "lab").reason == expected


HOOK = "from mscore import hookimpl\n@hookimpl\n"
MISTAKES = [
    HOOK + "def mscore_objective(): return {}",
    "def mscore_objectives(): return {}",
    HOOK + "def mscore_objectives(config): return {}",
    HOOK + "def mscore_run_finished(run, error=None): pass",
    HOOK + "def mscore_objectives():\n"
    " return {'entropy': type('EntropyBonus', (), {'__module__': 'mscore_plugin_lab.objective'})}",
    "MSCORE_API = 2\n" + HOOK + "def mscore_objectives(): return {}",
]
"""What the table of mistakes has in its first column. A class as entry point is tested with the other plugins."""

"""``mscore plugins new``: what it writes is in order, passes its own tests, and what it cannot write it refuses."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import mscore
from mscore import hookimpl
from mscore.cli.program import run_program
from mscore.errors import MscoreError
from mscore.template import KINDS, LONGEST_NAME, write_package
from mscore.testing import isolated_plugins

LONGEST = "inverse-dynamics-model"
FAST = ("objective", "trainer")
"""Kinds whose generated tests run with every change; the others' are slow tests."""

every_kind = pytest.mark.parametrize("kind", KINDS)


def call(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(name):
    return Path(sys.executable).parent / name


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run ``mscore …`` in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = run_program(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# --- what is written ---------------------------------------------------------------------------------


@every_kind
def test_a_package_is_complete(kind, tmp_path):
    package = write_package(kind, "my-part", tmp_path / "new", "Ada Lovelace")
    files = {str(path.relative_to(package.folder)) for path in package.folder.rglob("*") if path.is_file()}
    assert files - {"mscore_plugin_my_part/demonstrations.py"} == {
        *(".github/workflows/test.yml", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"),
        *(f"mscore_plugin_my_part/{name}" for name in ("__init__.py", f"{kind}.py", "py.typed")),
        *("mscore_plugin_my_part/recipes/__init__.py", "mscore_plugin_my_part/recipes/my-part.yaml"),
        *("tests/test_conformance.py", "tests/test_my_part.py"),
    }
    assert package.component == package.folder / "mscore_plugin_my_part" / f"{kind}.py"
    project = tomllib.loads((package.folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["mscore>=0.1,<1"]
    assert mscore.__version__.startswith("0.1")
    assert {"demo", "test"} == set(project["optional-dependencies"])
    assert project["entry-points"] == {"mscore": {"my-part": "mscore_plugin_my_part"}}
    assert project["authors"] == [{"name": "Ada Lovelace"}]
    assert "Ada Lovelace" in (package.folder / "LICENSE").read_text()
    readme = (package.folder / "README.md").read_text()
    for shown in ("pip install mscore-plugin-my-part", "```yaml", "mscore run my-part"):
        assert shown in readme
    workflow = yaml.safe_load((package.folder / ".github/workflows/test.yml").read_text())
    assert set(workflow["jobs"]) == {"test", "build", "publish"}
    assert not [path for path in files if "{{" in (text := (package.folder / path).read_text()).replace("${{", "")]
    assert text.endswith("\n") or not text


@every_kind
@pytest.mark.parametrize("name", ["x", LONGEST])
def test_the_code_has_the_style_of_its_own_settings(kind, name, tmp_path):
    assert len(LONGEST) == LONGEST_NAME
    folder = write_package(kind, name, tmp_path / "new").folder
    call(tool("ruff"), "check", "--no-cache", ".", cwd=folder)
    call(tool("ruff"), "format", "--no-cache", "--check", ".", cwd=folder)


@pytest.fixture(scope="session")
def types_of_libraries(tmp_path_factory):
    """One cache of mypy's for all kinds: most of its time goes into torch and Lightning."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
@every_kind
def test_the_code_is_typed(kind, tmp_path, types_of_libraries):
    folder = write_package(kind, "my-part", tmp_path / "new").folder
    call(tool("mypy"), "--cache-dir", types_of_libraries, "mscore_plugin_my_part", cwd=folder)


def installed(kind, tmp_path):
    """A new package that is installed beside the others: its folder, and the environment of processes that see it."""
    folder = write_package(kind, "my-part", tmp_path / "new").folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "--no-deps", "--no-build-isolation", "--target", tmp_path / "site", folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    return folder, {**kept, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_the_generated_tests_pass_as_they_are(kind, tmp_path):
    folder, environment = installed(kind, tmp_path)
    said = call(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=environment)
    assert "passed" in said


@pytest.mark.slow
def test_a_generated_policy_is_trained_online_as_it_is(tmp_path):
    _, environment = installed("policy", tmp_path)
    mscore_run = (sys.executable, "-m", "mscore", "run")
    short = ("policy={use: my-part}", "evaluation=null", "trainer.max_steps=1024", "scheduler.total_iters=100")
    call(*mscore_run, "cartpole-ppo", *short, cwd=tmp_path, env=environment)
    latest = tmp_path / "runs" / "cartpole-ppo" / "latest"
    call(*mscore_run, "--resume", latest, "trainer.max_steps=2048", cwd=tmp_path, env=environment)
    record = json.loads((latest / "run.json").read_text())
    assert record["status"] == "finished"
    assert mscore.read_checkpoint(latest / "checkpoints" / "last.ckpt")["global_step"] == 2048


# --- the command -------------------------------------------------------------------------------------


def test_it_says_what_to_type_next(cli):
    code, out, err = cli("plugins", "new", "policy", "little-gru")
    assert (code, err) == (0, "")
    assert "its code is in mscore-plugin-little-gru/mscore_plugin_little_gru/policy.py" in out
    commands = [line.strip() for line in out.partition("next:")[2].splitlines() if line.strip()]
    assert commands == [
        "cd mscore-plugin-little-gru",
        'pip install -e ".[test]"',
        "pytest",
        "mscore plugins check little-gru",
        "mscore run little-gru",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FocalLoss", "focal-loss"),
        ("focal_loss", "focal-loss"),
        ("mscore-plugin-Focal", "focal"),
        ("2d-focal", "d-focal"),
        ("a-name-of-many-many-words", "a-name-of-many-many-wo"),
    ],
)
def test_a_name_that_cannot_be_is_answered_with_one_that_can(cli, name, meant, tmp_path):
    code, _, err = cli("plugins", "new", "objective", name)
    assert code == 1
    assert "expected lower-case words joined by hyphens, at most 22 characters" in err
    assert f"Did you mean {meant!r}?" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("policy", "mine", "its class would be MinePolicy, which mscore itself exports"),
        ("trainer", "offline", "mscore itself has a trainer of this name"),
        ("callback", "early-stopping", "mscore itself has a callback of this name"),
        ("policy", "mscore", "mscore/… means the core's own components"),
        ("policy", "conformance", "its tests would be tests/test_conformance.py, which every package has"),
        ("objective", "no", "a config that says it means False"),
        ("objective", "null", "a config that says it means None"),
    ],
)
def test_a_name_that_is_taken_for_good(cli, kind, name, reason, tmp_path):
    code, _, err = cli("plugins", "new", kind, name)
    assert code == 1
    assert reason in err
    assert "choose another" in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_word_that_only_python_reserves_is_a_name(cli, tmp_path):
    assert cli("plugins", "new", "objective", "lambda")[0] == 0
    (compiled,) = tmp_path.glob("*/*/objective.py")
    compile(compiled.read_text(), compiled.name, "exec")


def test_an_unknown_kind_is_answered_with_the_kinds(cli):
    code, _, err = cli("plugins", "new", "loss", "focal")
    assert code == 2
    for kind in KINDS:
        assert kind in err


def test_a_name_that_others_have_is_warned_of(cli):
    code, _, err = cli("plugins", "new", "objective", "reference-kl")
    assert code == 0
    assert "objective 'reference-kl' is also provided by mscore-plugin-kl" in err
    assert "write 'reference-kl/reference-kl'" in err
    _, _, err = cli("plugins", "new", "objective", "kl")
    assert "there is a package mscore-plugin-kl already" in err
    assert "also provided" not in err
    _, _, err = cli("plugins", "new", "objective", "unlock-pickup")
    assert "recipe 'unlock-pickup' is also provided by mscore-plugin-minigrid" in err


def test_an_environment_takes_a_data_modules_name_as_well(cli):
    acme = ModuleType("acme")
    acme.mscore_datamodules = hookimpl(lambda: {"maze": "acme:Maze"})
    with isolated_plugins(acme):
        _, _, err = cli("plugins", "new", "environment", "maze")
    assert "datamodule 'maze' is also provided by mscore-plugin-acme 0" in err


def test_a_folder_in_use_is_left_alone(cli, tmp_path):
    kept = tmp_path / "mscore-plugin-focal" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    code, _, err = cli("plugins", "new", "objective", "focal")
    assert code == 1
    assert "mscore-plugin-focal exists already and is not empty; name a new folder with --to" in err
    assert [path.name for path in kept.parent.iterdir()] == ["notes.txt"]
    assert cli("plugins", "new", "objective", "focal", "--to", "other")[0] == 0
    assert cli("plugins", "new", "objective", "focal", "--to", str(kept))[2].strip().endswith("with --to")
    assert "there is no folder" in cli("plugins", "new", "objective", "focal", "--to", "no/such/place")[2]


def test_a_folder_that_cannot_be_written(cli, monkeypatch):
    import copier

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", "new")

    monkeypatch.setattr(copier, "run_copy", refuse)
    code, _, err = cli("plugins", "new", "objective", "focal", "--to", "new")
    assert code == 1
    assert err.startswith("error: cannot write new: ")
    assert "Permission denied" in err
    assert len(err.splitlines()) == 1


def test_the_folder_that_one_is_in(cli, tmp_path):
    code, out, _ = cli("plugins", "new", "objective", "focal", "--to", ".")
    assert code == 0
    assert "  cd " not in out
    assert (tmp_path / "pyproject.toml").is_file()


def test_a_folder_with_spaces_is_quoted(cli):
    assert "  cd 'a new folder'\n" in cli("plugins", "new", "objective", "focal", "--to", "a new folder")[1]


@pytest.mark.parametrize("author", ['Ada "the first" Lovelace', "Ada\rLovelace", "Ada\nLovelace", "Ada\\", "  "])
def test_an_author_that_would_break_the_metadata(author, tmp_path):
    with pytest.raises(MscoreError, match="without quotes"):
        write_package("objective", "focal", tmp_path / "new", author)


def test_without_copier_it_says_how_to_get_it(cli, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "copier" else found(name))
    code, _, err = cli("plugins", "new", "objective", "focal")
    assert code == 1
    assert 'pip install "mscore[template]"' in err
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_the_kinds_of_the_template():
    from mscore.cli.new import new

    (kind,) = [parameter for parameter in new.params if parameter.name == "kind"]
    assert tuple(kind.type.choices) == KINDS


def test_the_recipes_need_what_the_extra_says(tmp_path):
    """Each plugin of a recipe is in the extra `demo`, so that the printed commands are enough."""
    directory = json.loads((Path(mscore.__file__).parent / "plugin_directory.json").read_text())
    providers = {name: one["distribution"] for one in directory for names in one["provides"].values() for name in names}
    for kind in KINDS:
        folder = write_package(kind, "my-part", tmp_path / kind).folder
        text = (folder / "mscore_plugin_my_part/recipes/my-part.yaml").read_text()
        recipe = yaml.safe_load(text)
        used = {recipe[section].get("use") for section in ("policy", "data")} | set(recipe["objectives"])
        demo = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["optional-dependencies"]["demo"]
        assert {providers[name] for name in used & set(providers)} == {line.partition(">")[0] for line in demo}

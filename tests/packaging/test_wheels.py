"""Wheels of every package: what is in them, and that they work where nothing else of this repository is."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
FOCAL = ROOT / "tests" / "thirdparty" / "mscore-plugin-focal"
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file())
PACKAGES = [ROOT, *PLUGINS, FOCAL]

ELSEWHERE = {"simulator"}
"""Extras whose libraries cannot live beside others: see ``tests/integration/test_minestudio_simulator.py``."""

every_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)

SHORT = ["trainer.max_steps=4", "data.episodes=16", "data.batch_size=4", "data.processes=2", "trainer.accelerator=cpu"]
SHORT += ["evaluation.episodes=2", "evaluation.every_n_steps=2", "callbacks.smart-ckpt.every_n_train_steps=2"]

BROKEN = {
    "mscore_plugin_unimportable": "import a_library_that_nobody_has\n",
    "mscore_plugin_ungrammatical": "def mscore_objectives(:\n",
    "mscore_plugin_misspelt": (
        "from mscore import hookimpl\n@hookimpl\ndef mscore_objective():\n    return {'hinge': 'nothing:Nothing'}\n"
    ),
}


def name_of(folder):
    return "mscore" if folder == ROOT else folder.name


def wheel_of(wheels, name):
    (found,) = wheels.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return found


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


# --- what is in a wheel ----------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_wheel_holds_the_package_and_no_tests(wheels, package):
    name = name_of(package)
    module = name.replace("-", "_")
    with zipfile.ZipFile(wheel_of(wheels, name)) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {module}
    ours = [name for name in names if not name.startswith("mscore/template/")]  # it holds the tests of new plugins
    assert not [name for name in ours if "/tests/" in name or name.rpartition("/")[2].startswith("test_")]
    if package is FOCAL:
        return
    assert f"{module}/py.typed" in names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    inside = {
        str(path.relative_to(package))
        for path in (package / module).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith(f"{module}/")} == inside


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_wheels_metadata(wheels, package):
    metadata = metadata_of(wheel_of(wheels, name_of(package)))
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = {one.name: one for one in map(Requirement, metadata.get_all("Requires-Dist") or [])}
    if package == ROOT:
        for name in ("torch", "lightning", "pluggy", "omegaconf", "importlib-metadata", "rich", "click"):
            assert name in needed
            assert needed[name].marker is None
        assert "extra" in str(needed["wandb"].marker)
        assert not [name for name in needed if name.startswith("mscore")]
        return
    assert {operator.operator for operator in needed["mscore"].specifier} == {">=", "<"}
    for name in ("torch", "lightning"):
        if name in needed:
            assert {operator.operator for operator in needed[name].specifier} <= {">="}


def declared(wheels, name):
    """The packages of this repository that a package needs, and what these need."""
    needed = map(Requirement, metadata_of(wheel_of(wheels, name)).get_all("Requires-Dist") or [])
    direct = {one.name for one in needed if one.name.startswith("mscore-plugin-") and one.marker is None}
    return direct.union(*(declared(wheels, other) for other in direct))


# --- fresh environments ----------------------------------------------------------------------------


def test_a_recipe_runs_outside_the_repository(fresh):
    fresh.install(*map(name_of, PACKAGES))
    assert str(fresh.site) in fresh.code("import mscore; print(mscore.__file__)")

    listed = json.loads(fresh.mscore("plugins", "--json"))["plugins"]
    assert {one["distribution"] for one in listed} == {name_of(package) for package in PACKAGES}
    assert {one["status"] for one in listed} == {"ok"}

    fresh.mscore("run", "unlock-pickup", *SHORT)
    latest = fresh.work / "runs" / "unlock-pickup" / "latest"
    record = json.loads((latest / "run.json").read_text())
    assert record["status"] == "finished"
    assert not any(plugin["editable"] for plugin in record["plugins"])
    assert "success" in fresh.mscore("evaluate", latest, "--episodes", 2)
    assert {path.suffix for path in latest.glob("evaluations/*/*")} == {".json", ".png", ".mp4"}
    fresh.mscore("export", latest, "--ema", "--to", "exported")
    loaded = "import mscore; print(type(mscore.load_policy('exported')).__name__)"
    assert fresh.code(loaded) == "RecurrentPolicy\n"

    # A package of somebody else, by name.
    fresh.mscore("run", "unlock-pickup", *SHORT, "name=focal", "objectives.bc=null", "objectives.focal.gamma=1.0")
    assert "train/focal/loss" in (fresh.work / "runs" / "focal" / "latest" / "metrics.csv").read_text()


def test_broken_plugins_are_listed_and_stop_nothing_else(fresh, run):
    fresh.install("mscore-plugin-minigrid", "mscore-plugin-recurrent", "mscore-plugin-bc")
    for module, code in BROKEN.items():
        package = fresh.folder / module
        (package / module).mkdir(parents=True)
        (package / module / "__init__.py").write_text(code)
        name = module.replace("_", "-")
        (package / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\n'
            f'[project.entry-points.mscore]\n{name.removeprefix("mscore-plugin-")} = "{module}"\n'
        )
        run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", fresh.folder / "dist", package])
        (wheel,) = (fresh.folder / "dist").glob(f"{module}-*.whl")
        fresh.install(wheel)

    listed = {one["plugin"]: one for one in json.loads(fresh.mscore("plugins", "--json"))["plugins"]}
    assert {name for name, one in listed.items() if one["status"] == "broken"} == {
        *("unimportable", "ungrammatical", "misspelt")
    }
    assert "a_library_that_nobody_has" in listed["unimportable"]["reason"]
    assert "mscore_objectives" in listed["misspelt"]["reason"]
    config = (
        "name: small\npolicy: recurrent\nobjectives: {bc: {}}\n"
        "data: {use: minigrid, episodes: 8, batch_size: 4, processes: 1}\n"
        "trainer: {max_steps: 1, accelerator: cpu}\n"
    )
    (fresh.work / "config.yaml").write_text(config)
    fresh.mscore("run", "config.yaml")
    done = subprocess.run(
        [fresh.python.parent / "mscore", "run", "config.yaml", "objectives.hinge.weight=1"],
        cwd=fresh.work,
        env=fresh.variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "hinge" in done.stderr
    assert "misspelt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_may_import_lightning_before_mscore(fresh):
    # With timm comes a torchvision that may be built for another torch; torch prepares for it.
    fresh.install("mscore-plugin-rocket")
    fresh.code("import lightning, torchvision, timm; from mscore_plugin_rocket import RocketPolicy")


def test_hydra_may_load_a_scripts_arguments(fresh, wheels):
    # hydra needs an older OmegaConf than the one that is lent.
    for lent in (fresh.folder / "libraries").glob("omegaconf*"):
        lent.unlink()
    fresh.install(wheel_of(wheels, "mscore"), "hydra-core", index=True)
    (fresh.work / "conf").mkdir()
    (fresh.work / "conf" / "config.yaml").write_text("weight: 0.01\nmodel: {hiddim: 32, layers: [1, 2]}\n")
    (fresh.work / "train.py").write_text(
        "import hydra\n"
        "from mscore import MineLightning\n"
        "from mscore.offline import convert_to_normal\n"
        "from mscore.testing import TinyObjective, TinyPolicy\n"
        "@hydra.main(config_path='conf', config_name='config', version_base=None)\n"
        "def main(args):\n"
        "    module = MineLightning(TinyPolicy(), [TinyObjective()], hyperparameters=convert_to_normal(args))\n"
        "    assert type(module.hparams['model']) is dict and type(module.hparams['model']['layers']) is list\n"
        "    print(module.hparams)\n"
        "main()\n"
    )
    assert "32" in fresh.code("import runpy; runpy.run_path('train.py', run_name='__main__')")


@every_plugin
def test_a_plugin_installs_with_only_what_it_declares(fresh, folder):
    fresh.install(folder.name)
    listed = {one["plugin"]: one for one in json.loads(fresh.mscore("plugins", "--json"))["plugins"]}
    mine = folder.name.removeprefix("mscore-plugin-")
    others = {name.removeprefix("mscore-plugin-") for name in declared(fresh.wheels, folder.name)}
    assert set(listed) == {"mscore", mine, *others}
    for kind, names in listed[mine]["components"].items():
        for name in names:
            if kind not in ("recipe", "command"):
                fresh.mscore("plugins", "show", name, "--kind", kind)


def test_the_readmes_installation_from_the_index(wheels, run, tmp_path):
    """Nothing is lent from this environment: every library is installed, at the versions of constraints.txt."""
    venv = tmp_path / "venv"
    run([sys.executable, "-m", "venv", venv])
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    # torch comes first, as in `make install`: what other packages would choose can be gigabytes.
    run([*pip, "torch"])
    run([*pip, "--find-links", wheels, "mscore-plugin-minigrid[demo]"])
    run([python, "-m", "pip", "check"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSCORE_", "PYTHON"))}
    variables = {**kept, "MSCORE_CACHE": str(tmp_path / "cache")}
    mscore = venv / "bin" / "mscore"
    options = {"cwd": tmp_path, "env": variables, "timeout": 600}
    assert "broken" not in run([mscore, "plugins"], **options)
    run([mscore, "run", "unlock-pickup", *SHORT], **options)
    assert "success" in run([mscore, "evaluate", "runs/unlock-pickup/latest", "--episodes", 2], **options)
    # Without the extra, a config that asks for wandb is told the pip line, before anything is built.
    done = subprocess.run(
        [mscore, "run", "unlock-pickup", *SHORT, "loggers.wandb={}"], capture_output=True, text=True, **options
    )
    assert done.returncode == 2
    assert 'pip install "mscore[wandb]"' in done.stderr


# --- downstream: each plugin's own tests -----------------------------------------------------------


@every_plugin
def test_a_plugins_own_tests_pass_with_the_cores_wheel(fresh, folder):
    """Its suite is copied to where nothing else of the repository is; other plugins that it names are installed."""
    tests = shutil.copytree(folder / "tests", fresh.work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    named = {name for path in tests.glob("*.py") for name in re.findall(r"mscore_plugin_[a-z_]+", path.read_text())}
    extras = set(metadata_of(wheel_of(fresh.wheels, folder.name)).get_all("Provides-Extra") or []) - ELSEWHERE
    fresh.install(f"{folder.name}[{','.join(sorted(extras))}]", *(name.replace("_", "-") for name in sorted(named)))
    assert "passed" in fresh.pytest("tests")

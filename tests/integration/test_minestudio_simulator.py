"""The environment ``minestudio`` with the pip package of that name, in an environment made for it.

The package's dependencies are its own (NumPy 1, another OpenCV), so it is installed beside the benchmark's MineStudio
under the cache, once. What is tested is in ``minestudio_simulator/``; Minecraft's engine has a stand-in there.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "integration" / "minestudio_simulator"
PLUGINS = ["minestudio", "ppo", "vpt"]
SIMULATOR = [
    *("coloredlogs==15.0.1", "daemoniker==0.2.3", "diskcache==5.6.3", "lxml", "minecraft_data==3.20.0", "psutil"),
    *("Pyro4==4.82", "xmltodict==1.0.4"),
]
OURS = [
    *("annotated-types", "importlib-metadata", "matplotlib", "numpy==1.26.4", "omegaconf", "pluggy", "pydantic"),
    *("pytest", "safetensors"),
]


def succeed(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
    from peer_minestudio import environment

    cache = Path(os.environ.get("MSCORE_CACHE") or "~/.cache/mscore").expanduser() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    peer, home = environment(cache), cache / "minestudio-1.1.6-simulator"
    here = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        (site,) = home.glob("lib/python*/site-packages")
        (theirs,) = peer.parents[1].glob("lib/python*/site-packages")
        (site / "minestudio.pth").write_text(f"{theirs}\n")
        succeed(here, "-m", "pip", "install", "--quiet", *SIMULATOR, *OURS)
        (home / "ready").touch()
    return here


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_minestudios_own_simulator_is_an_environment(python, tmp_path):
    paths = [ROOT, *(ROOT / "plugins" / f"mscore-plugin-{name}" for name in PLUGINS), CASES]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    # Settings of the repository's own pytest, such as its import mode, are not for here.
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path, "--confcutdir", CASES]
    succeed(python, "-m", "pytest", *options, CASES / "simulator_cases.py", cwd=tmp_path, env=variables, timeout=900)

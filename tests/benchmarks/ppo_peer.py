"""Stable-Baselines3 and TorchRL in a virtual environment of their own, for PPO to be measured beside.

``python tests/benchmarks/ppo_peer.py`` makes it where it is not there, in ``$MSCORE_CACHE`` (by default
``~/.cache/mscore``), and prints its Python. About 1.5 GB.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = ["stable-baselines3==2.9.2", "torchrl==0.14.1", "gymnasium==1.4.0", "minigrid==3.2.0"]


def peer_python() -> Path:
    """The Python of the environment, which is made if it is not there."""
    cache = Path(os.environ.get("MSCORE_CACHE", Path.home() / ".cache" / "mscore"))
    folder = cache / "benchmarks" / "stable-baselines3-2.9.2"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing Stable-Baselines3 and TorchRL into {folder}, once", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # torch first and by its version: what other packages would choose can be gigabytes of CUDA libraries.
        for packages in (["torch==2.13.0", "numpy==2.4.6"], PACKAGES):
            subprocess.run([*pip, *packages], check=True)
        (folder / "ready").touch()
    return python


if __name__ == "__main__":
    print(peer_python())

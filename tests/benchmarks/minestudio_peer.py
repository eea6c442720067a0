"""MineStudio in a virtual environment of its own, for benchmarks to be measured beside.

``python tests/benchmarks/minestudio_peer.py`` makes it where it is not there, in ``$MSCORE_CACHE`` (by default
``~/.cache/mscore``), and prints its Python. About 2 GB.
"""

import os
import subprocess
import sys
from pathlib import Path

ITSELF = "minestudio==1.1.6"
NEEDS = [
    *("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31", "numpy==1.26.4", "lightning==2.6.6", "einops"),
    *("gym==0.26.2", "gym3==0.3.3", "gymnasium", "ray", "absl-py", "rich", "transformers", "x-transformers==0.27.1"),
    *("huggingface_hub", "omegaconf", "wandb", "opencv-python-headless", "av", "dm-tree"),
]


def peer_python() -> Path:
    """The Python of the environment, which is made if it is not there."""
    cache = Path(os.environ.get("MSCORE_CACHE", Path.home() / ".cache" / "mscore"))
    folder = cache / "peers" / "minestudio-models"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing MineStudio into {folder}, once", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "torch==2.13.0", "numpy==1.26.4"], check=True)
        subprocess.run([*pip, "--no-deps", ITSELF], check=True)
        subprocess.run([*pip, *NEEDS], check=True)
        (folder / "installed").touch()
    return python


def prepare() -> None:
    """In the peer's process, before it is imported: what it needs beside a CPU build of torch, and no downloads."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    prepare.library = library  # type: ignore[attr-defined]  # torch forgets the schemas with the object
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    create_model = timm.create_model
    timm.create_model = lambda *args, **kwargs: create_model(*args, **{**kwargs, "pretrained": False})


if __name__ == "__main__":
    print(peer_python())

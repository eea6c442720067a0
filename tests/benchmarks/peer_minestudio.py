"""MineStudio's reader, benchmarked in its own environment by ``bench_data.py``; and that environment."""

import hashlib
import subprocess
import venv
from pathlib import Path

from benchmark_worker import milliseconds, one_core, play, serve

# PyAV 14 and lmdb 2 are too new for it. albumentations would bring a second OpenCV.
ALONE = ["minestudio==1.1.6", "albumentations==1.4.0", "qudida==0.0.4", "opencv-python-headless==4.8.0.74"]
TORCH = ["torch==2.13.0", "numpy==1.26.4"]
OTHERS = [
    *TORCH, "av==13.1.0", "lmdb==1.7.3", "lightning==2.6.6", "scipy", "scikit-image", "scikit-learn", "pyyaml", "ray",
    "einops", "gym==0.26.2", "gym3==0.3.3", "gymnasium", "huggingface_hub", "absl-py", "rich", "tqdm",
]  # fmt: skip


def environment(folder: Path) -> Path:
    """The interpreter of an environment with MineStudio, made the first time that it is needed."""
    home = folder / "minestudio-1.1.6"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        for arguments in (TORCH, ["--no-deps", *ALONE], OTHERS):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)
        (home / "ready").touch()
    return python


def make_module(dataset, size, window, workers=0):
    """Its data module, as its tutorials make it."""
    from minestudio.data.minecraft.callbacks import ActionKernelCallback, ImageKernelCallback
    from minestudio.data.minecraft.dataset_raw import RawDataModule

    module = RawDataModule(
        data_params={
            "dataset_dirs": [dataset],
            "modal_kernel_callbacks": [
                ImageKernelCallback(frame_width=size, frame_height=size),
                ActionKernelCallback(),
            ],
            "win_len": window,
            "split_ratio": 0.8,
        },
        batch_size=4,
        num_workers=workers,
    )
    module.setup()
    return module


def cpu(dataset, size, window, batches):
    """Milliseconds of CPU time to read a frame, and a hash of the images; one item at a time."""
    items = make_module(dataset, size, window).train_dataset
    indices = [index for batch in batches for index in batch]
    digest = hashlib.sha256()

    def read():
        for index in indices:
            items[index]

    with one_core():
        found = milliseconds(read, window * len(indices))
    for index in indices[:8]:
        digest.update(items[index]["image"].numpy().tobytes())
    return {"milliseconds": found, "images": digest.hexdigest()}


def wall(dataset, size, window, workers, batches):
    """What its loader gives and takes."""
    return play(make_module(dataset, size, window, workers).train_dataloader(), batches)


if __name__ == "__main__":
    serve({"cpu": cpu, "wall": wall})

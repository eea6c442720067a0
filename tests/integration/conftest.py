"""What runs of several packages need on a machine without a network, and runs that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubCache:
    """Hugging Face's cache as a download leaves it; ``environment`` makes a process read it, and never the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"}

    def snapshot(self, repository: str) -> Path:
        """The folder of a repository's files on its branch ``main``, made if it is not there."""
        kept = self.folder / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = kept / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        (kept / "refs").mkdir(exist_ok=True)
        (kept / "refs" / "main").write_text(COMMIT)
        return snapshot

    def backbone(self, name: str) -> None:
        """Keep weights of a network of timm's, random ones."""
        state = timm.create_model(name, pretrained=False).state_dict()
        save_file(state, self.snapshot(f"timm/{name}") / "model.safetensors")


@pytest.fixture
def hub(tmp_path):
    """A cache of one's own."""
    return HubCache(tmp_path / "hugging-face")


@pytest.fixture
def killed(tmp_path):
    """``killed(recipe, *overrides)`` kills a run right after it has saved the checkpoint of step 11; its folder."""

    def start_and_kill(recipe, *overrides):
        line = [sys.executable, "-m", "mscore", "run", recipe, *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with (tmp_path / "said").open("w") as said:
            run = subprocess.Popen(
                line, cwd=tmp_path, env=environment, stdout=said, stderr=said, start_new_session=True
            )
        deadline = time.monotonic() + 250
        while run.poll() is None and time.monotonic() < deadline:
            if list(tmp_path.glob(f"runs/{recipe}/*/checkpoints/ckpt-*step=11.ckpt")):
                break
            time.sleep(0.1)
        assert run.poll() is None, (tmp_path / "said").read_text()
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        (directory,) = [path for path in (tmp_path / "runs" / recipe).iterdir() if not path.is_symlink()]
        return directory

    return start_and_kill

"""What runs of several packages need on a machine without a network."""

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

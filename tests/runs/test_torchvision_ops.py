import importlib.metadata
import os
import subprocess
import sys
import textwrap

import pytest

# What torchvision does at its own import, in short: it goes on when its operators do not load, and then
# registers a fake implementation for them.
FAKE = """
import torch
try:
    torch.ops.load_library(__file__.replace("__init__.py", "_C.so"))
except OSError:
    pass

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""


def import_beside(site, statements):
    environment = {**os.environ, "PYTHONPATH": str(site), "MSCORE_PLUGINS": ""}
    return subprocess.run(
        [sys.executable, "-c", statements], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def broken_torchvision(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE)
    (package / "_C.so").write_bytes(b"built for another torch")
    return tmp_path


def test_without_mscore_such_a_torchvision_cannot_be_imported(broken_torchvision):
    assert "torchvision::nms does not exist" in import_beside(broken_torchvision, "import torchvision").stderr


def test_importing_mscore_first_is_enough(broken_torchvision):
    statements = textwrap.dedent("""
        import sys, mscore
        assert "torch" not in sys.modules
        import torchvision
        assert not any(type(finder).__name__ == "TorchvisionImport" for finder in sys.meta_path)
    """)
    done = import_beside(broken_torchvision, statements)
    assert done.returncode == 0, done.stderr


def test_it_watches_once():
    from mscore import torchvision_ops

    before = list(sys.meta_path)
    torchvision_ops.install()
    torchvision_ops.install()
    added = [finder for finder in sys.meta_path if finder not in before]
    assert len(added) <= 1
    for finder in added:
        sys.meta_path.remove(finder)


@pytest.mark.slow
def test_lightning_works_beside_a_real_torchvision_for_another_torch(tmp_path):
    torch_version = importlib.metadata.version("torch").split("+")[0]
    torchvision = f"torchvision==0.{int(torch_version.split('.')[1]) + 15}.0"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), torchvision]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{torchvision} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    statements = "import mscore.offline, lightning.pytorch, torchvision; print(torchvision.__version__)"
    done = import_beside(tmp_path, statements)
    assert done.returncode == 0, done.stderr

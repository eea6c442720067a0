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


def import_beside(site, statements, autoload=True):
    environment = {**os.environ, "PYTHONPATH": str(site), "MSCORE_PLUGINS": ""}
    environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = str(int(autoload))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(statements)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def broken_torchvision(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE)
    (package / "_C.so").write_bytes(b"built for another torch")
    return tmp_path


def test_without_mscore_such_a_torchvision_cannot_be_imported(broken_torchvision):
    done = import_beside(broken_torchvision, "import torchvision", autoload=False)
    assert "torchvision::nms does not exist" in done.stderr


UNTOUCHED = "import sys; assert not any(type(one).__name__ == 'TorchvisionImport' for one in sys.meta_path)"


@pytest.mark.parametrize(
    "statements", ["import torchvision", "import torch, torchvision", "import torch, mscore, torchvision"]
)
def test_torch_prepares_for_it_whatever_is_imported_first(broken_torchvision, statements):
    done = import_beside(broken_torchvision, f"{statements}\n{UNTOUCHED}")
    assert done.returncode == 0, done.stderr


def test_without_autoloading_mscore_is_imported_first(broken_torchvision):
    statements = f"""
        import sys, mscore
        assert "torch" not in sys.modules
        import torchvision
        {UNTOUCHED}
    """
    done = import_beside(broken_torchvision, statements, autoload=False)
    assert done.returncode == 0, done.stderr


def test_what_a_script_has_declared_itself_is_left_as_it_is(broken_torchvision):
    statements = """
        import torch
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    """
    done = import_beside(broken_torchvision, statements)
    assert done.returncode == 0, done.stderr


def test_a_torchvision_that_works_is_left_alone(tmp_path):
    # Its own library defines the operators; declaring them as well would be an error.
    package = tmp_path / "torchvision"
    package.mkdir()
    schema = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    (package / "__init__.py").write_text(
        f"import torch\nlibrary = torch.library.Library('torchvision', 'DEF')\nlibrary.define('{schema}')\n"
    )
    (package / "_C.so").write_bytes(b"loads where torch is asked to load nothing")
    statements = "import torch; torch.ops.load_library = lambda path: None; import torchvision, mscore, torchvision"
    done = import_beside(tmp_path, statements)
    assert done.returncode == 0, done.stderr


def test_a_script_that_hides_torchvision_can_import_torch(tmp_path):
    done = import_beside(tmp_path, "import sys; sys.modules['torchvision'] = None; import torch")
    assert done.returncode == 0, done.stderr


def test_torch_is_imported_without_importing_torchvision():
    done = import_beside(".", "import sys, torch; assert 'torchvision' not in sys.modules")
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
    done = import_beside(tmp_path, "import lightning, torchvision, mscore.offline; print(torchvision.__version__)")
    assert done.returncode == 0, done.stderr

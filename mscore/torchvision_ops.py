"""Keeps ``import lightning`` working beside a torchvision that was built for another torch.

A CUDA build of torchvision beside a CPU build of torch (what ``pip install`` gives on many machines
without a GPU) cannot load its compiled operators. torchvision itself tolerates that, and then fails at
its own import, because it registers fake implementations for two operators that nobody defined:
``operator torchvision::nms does not exist``. Lightning imports torchmetrics, which imports torchvision,
so nothing that needs Lightning can be imported at all.

The remedy is to declare the two operators' schemas before torchvision is imported. This module is the
one place that does so. torch calls :func:`install` at the end of its own import, by the entry point in its
group ``torch.backends`` that ``pyproject.toml`` has, so that a script may import Lightning before mscore, or
mscore's plugins alone; ``import mscore`` calls it too, for processes in which torch's autoloading is off
(``TORCH_DEVICE_BACKEND_AUTOLOAD=0``). It costs nothing until somebody imports torchvision, whoever that is
(a plugin, Lightning, a script), acts once, and does nothing where the operators load. Calling an operator
that is only declared still raises torch's own ``NotImplementedError``.
"""

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_libraries: list[Any] = []  # torch forgets what a Library defined when the Library is collected


class TorchvisionImport:
    """A finder that finds nothing: it sees torchvision's first import coming and prepares for it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Declare the operators when ``name`` is torchvision; leave the import to the other finders."""
        if name == "torchvision":
            try:
                spec = PathFinder.find_spec(name)
                if spec is not None:
                    _prepare(spec.submodule_search_locations or [])
            finally:
                sys.meta_path.remove(self)
        return None


def install() -> None:
    """Watch for torchvision's first import, unless that is done already; while it goes on, prepare for its rest."""
    if "torchvision" in sys.modules:
        # It is torchvision that imports torch, which called this.
        _prepare(getattr(sys.modules["torchvision"], "__path__", []))
    elif not any(isinstance(finder, TorchvisionImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionImport())


def _prepare(folders: Iterable[str]) -> None:
    """Declare the operators, unless they are known, or torchvision in ``folders`` brings them."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms") and not _operators_load(folders):
        _declare()


def _operators_load(folders: Iterable[str]) -> bool:
    """Whether torchvision's compiled operators load with this torch, tried as torchvision tries it."""
    import torch

    libraries = [file for folder in folders for file in Path(folder).glob("_C*") if file.suffix in (".so", ".pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except (ImportError, OSError):
        return False
    return bool(libraries)


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _libraries.append(library)

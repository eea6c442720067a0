"""What a process elsewhere must share with this one to unpickle what it is sent."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle


@dataclass(frozen=True)
class Parcel:
    """Python objects, and where their modules are found: import path, plugin files, working directory.

    Ray gives its processes the folder of a script; what ``mscore`` adds to the import path (the folders of
    plugin files) and the choice of plugins travel with the parcel. On another machine a folder counts only if
    it is there, too.
    """

    path: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    content: bytes

    @classmethod
    def of(cls, value: Any) -> "Parcel":
        """Pack a value."""
        chosen = {name: text for name, text in os.environ.items() if name.startswith("MSCORE_")}
        return cls(tuple(sys.path), chosen, os.getcwd(), cloudpickle.dumps(value))

    def open(self) -> Any:
        """Make this process like the one that packed, and unpack."""
        sys.path += [folder for folder in self.path if folder not in sys.path and os.path.isdir(folder)]
        os.environ.update(self.environment)
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        return cloudpickle.loads(self.content)

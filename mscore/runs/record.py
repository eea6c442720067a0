"""What a run writes down about itself while it goes: the resolved config, and ``run.json``."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mscore.config import RunConfig
from mscore.errors import Interrupted
from mscore.plugins import installed_plugins
from mscore.runs import directory as layout
from mscore.runs.provenance import git_state, now, versions

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


class RunRecord:
    """A run's ``run.json``: what it is made of, and each time that it was started or gone on with.

    Args:
        directory: the run's directory.
        config: the run's config.
        plugins: the records of the plugins that it uses.
    """

    def __init__(self, directory: Path, config: RunConfig, plugins: Sequence[dict[str, Any]]) -> None:
        self.directory = directory
        self.config = config
        self.plugins = list(plugins)

    def begin(self) -> None:
        """Write the config, and that the run goes on from here."""
        session = {
            "command": list(sys.argv),
            "folder": os.getcwd(),
            "git": git_state(),
            "started": now(),
            "ended": None,
            "status": RUNNING,
        }
        layout.write_file(self.directory / layout.CONFIG_FILE, self.config.to_yaml())
        layout.write_record(
            self.directory,
            {
                "name": self.config.name,
                "status": RUNNING,
                "error": None,
                "versions": versions(),
                "plugins": self.plugins,
                "order": {
                    "plugins": [plugin.name for plugin in installed_plugins().loaded],
                    "objectives": [objective.label for objective in self.config.objectives],
                    "callbacks": [callback.label for callback in self.config.callbacks],
                },
                "sessions": [*layout.read_record(self.directory).get("sessions", []), session],
            },
        )

    def end(self, error: BaseException | None) -> str:
        """Write how it ended, and return that: ``finished``, ``interrupted`` or ``failed``."""
        status = FINISHED if error is None else FAILED
        if isinstance(error, Interrupted | KeyboardInterrupt):
            status = INTERRUPTED
        record = layout.read_record(self.directory)
        record["status"] = status
        record["error"] = None if error is None else f"{type(error).__name__}: {error}"
        record["sessions"][-1] |= {"ended": now(), "status": status}
        layout.write_record(self.directory, record)
        return status

"""A folder of checkpoints that is kept small."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mscore_plugin_ppo.trainers.ppo import PPOTrainer

_NAME = re.compile(r"iteration-(\d+)\.ckpt")


class CheckpointFolder:
    """Saves a trainer every so many iterations and at the end.

    Args:
        folder: where the files ``iteration-<number>.ckpt`` are written.
        save_interval: iterations between two of them.
        keep_interval: those of multiples of this many iterations stay; of the others only the newest.
    """

    on_every_rank = True

    def __init__(self, folder: Path, save_interval: int, keep_interval: int) -> None:
        self.folder = folder
        self.save_interval = save_interval
        self.keep_interval = keep_interval
        self._saved = -1

    def on_start(self, trainer: "PPOTrainer") -> None:
        """Nothing is to be saved yet."""

    def on_iteration(self, trainer: "PPOTrainer", metrics: Mapping[str, float]) -> None:
        """Save when the interval is over."""
        if trainer.iteration % self.save_interval == 0:
            self._save(trainer)

    def on_end(self, trainer: "PPOTrainer") -> None:
        """Save what was learned."""
        if self._saved != trainer.iteration:
            self._save(trainer)

    def close(self) -> None:
        """Nothing is left open."""

    def _save(self, trainer: "PPOTrainer") -> None:
        trainer.save_checkpoint(self.folder / f"iteration-{trainer.iteration}.ckpt")
        self._saved = trainer.iteration
        if trainer.ranks.rank:
            return
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) < trainer.iteration and int(match[1]) % self.keep_interval:
                path.unlink()

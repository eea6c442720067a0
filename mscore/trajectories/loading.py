"""What a dataset raises in a worker process, as it arrives in the training process.

torch carries an exception over as one whose message is the worker's traceback. A mistake that is written for
the user has to arrive as it was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from mscore.errors import MscoreError
from mscore.trajectories.windows import BatchDataset


@dataclass(frozen=True)
class _Raised:
    """An error, in place of the batch that there is none of."""

    error: MscoreError


class WorkerDataset(Dataset[Any]):
    """A dataset as worker processes read it: an MscoreError takes the place of the batch.

    Args:
        dataset: what is read.
    """

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """The batch of these windows, or why there is none."""
        try:
            return self.dataset.__getitems__(indices)
        except MscoreError as error:
            return _Raised(error)


def received(batch: Any) -> Any:
    """A batch that a worker sent.

    Raises:
        MscoreError: the worker's dataset raised it.
    """
    if isinstance(batch, _Raised):
        raise batch.error
    return batch

"""What a loader hands on: windows that stand alone, what its readers noted, and their mistakes as they are."""

import pytest
import torch

from mscore import BatchDataset, MscoreError, ResumableDataModule

BROKEN = 4


class Alone(BatchDataset):
    """Windows that stand alone; one of them cannot be read."""

    def __init__(self, broken=None):
        self.broken = broken

    def __len__(self):
        return 10

    def __getitems__(self, indices):
        if self.broken in indices:
            raise MscoreError(f"window {self.broken} cannot be read")
        return {"image": torch.tensor(indices)[:, None], "noted": len(indices)}


class Data(ResumableDataModule):
    def __init__(self):
        super().__init__()
        self.noted = 0

    def receive(self, batch):
        self.noted += batch.pop("noted")
        return batch


def windows(loader):
    return [batch["image"].flatten().tolist() for batch in loader]


def flat(batches):
    return [window for batch in batches for window in batch]


@pytest.mark.parametrize("workers", [0, 2])
def test_windows_that_stand_alone_come_once_an_epoch(workers):
    data = Data()
    loader = data.training_loader(Alone(), batch_size=4, continuous=False, num_workers=workers, seed=1)
    seen = flat(windows(loader))
    assert sorted(seen) == [-1, -1, *range(10)]
    assert data.noted == 12
    assert seen == flat(windows(loader))


def test_validation_keeps_their_order():
    loader = Data().validation_loader(Alone(), batch_size=4, continuous=False)
    assert windows(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]


def test_windows_that_stand_alone_cannot_be_continuous():
    with pytest.raises(MscoreError, match="continuous=False"):
        Data().training_loader(Alone(), batch_size=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_arrives_as_it_was_written(workers):
    loader = Data().validation_loader(Alone(broken=BROKEN), batch_size=4, continuous=False, num_workers=workers)
    with pytest.raises(MscoreError) as caught:
        windows(loader)
    assert str(caught.value) == "window 4 cannot be read"

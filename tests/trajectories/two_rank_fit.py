"""A real fit for test_two_ranks: every rank writes down the batches that it sees."""

import json
import sys

import lightning.pytorch as pl
import numpy as np
import torch

from mscore import ResumableDataModule, WindowDataset


class Frames(WindowDataset):
    """Frames that hold their own number."""

    def read(self, episode, start, stop):
        return {"image": np.arange(start, stop, dtype=np.float32)[:, None]}


class Data(ResumableDataModule):
    """Nineteen episodes."""

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size
        lengths = np.random.default_rng(0).integers(1, 14, 19).tolist()
        self.dataset = Frames([f"e{i}" for i in range(len(lengths))], lengths, 3)

    def train_dataloader(self):
        return self.training_loader(self.dataset, batch_size=self.batch_size, seed=1)


class Module(pl.LightningModule):
    """Remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(list(zip(batch["episode"], batch["timestamp"][:, 0].tolist(), strict=True)))
        return (self.weight * batch["image"]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def main():
    directory, devices, batch_size, *resume = sys.argv[1:]
    module = Module()
    several = {"strategy": "ddp"} if int(devices) > 1 else {}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(devices),
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        callbacks=[pl.callbacks.ModelCheckpoint(directory, filename="at-{step}", every_n_train_steps=4, save_top_k=-1)],
        **several,
    )
    trainer.fit(module, datamodule=Data(int(batch_size)), ckpt_path=resume[0] if resume else None)
    with open(f"{directory}/seen-{trainer.global_rank}.json", "w") as file:
        json.dump(module.seen, file)
    if torch.distributed.is_initialized():
        # Left to the interpreter's end, its threads sometimes abort it.
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

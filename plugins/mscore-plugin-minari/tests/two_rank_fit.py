"""A real fit for test_minari_processes: every rank writes down the windows that it sees."""

import json
import sys

import lightning.pytorch as pl
import torch
from mscore_plugin_minari import MinariDataModule


class Module(pl.LightningModule):
    """Remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        sums = batch["image"].double().sum((1, 2)).tolist()
        self.seen.append(list(zip(batch["episode"], batch["timestamp"][:, 0].tolist(), sums, strict=True)))
        return self.weight * batch["image"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def main():
    dataset_id, root, directory = sys.argv[1:]
    module = Module()
    data = MinariDataModule(dataset_id, root, win_len=4, batch_size=2, seed=3, split_ratio=1.0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        use_distributed_sampler=False,
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, datamodule=data)
    with open(f"{directory}/seen-{trainer.global_rank}.json", "w") as file:
        json.dump(module.seen, file)
    # Left to the interpreter's end, its threads sometimes abort it.
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

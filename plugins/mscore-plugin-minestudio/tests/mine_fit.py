"""A real fit for the tests of many processes: MineStudio's tutorial on a few frames; writes down what it sees."""

import hashlib
import json
import sys
from pathlib import Path

import lightning as L
import torch
from mscore_plugin_bc import BehaviorCloneCallback
from mscore_plugin_minestudio import MineDataModule
from mscore_plugin_recurrent import RecurrentPolicy

from mscore import ObjectiveCallback
from mscore.offline import MineLightning


class WriteDown(ObjectiveCallback):
    """What every row of the training batches holds: where it lies, and a hash of its frames and masks."""

    def __init__(self):
        self.seen = []

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        if step_name == "train":
            rows = zip(batch["episode"], batch["timestamp"][:, 0].tolist(), strict=True)
            self.seen.append([[*row, self.content(batch, number)] for number, row in enumerate(rows)])
        return {"first": batch["first"].float().sum()}

    @staticmethod
    def content(batch, row):
        parts = [batch["image"], batch["mask"], batch["segmentation"]["obj_mask"], batch["agent_action"]["buttons"]]
        content = b"".join(part[row].cpu().numpy().tobytes() for part in parts)
        return hashlib.sha256(content).hexdigest()[:16]


def main():
    given = json.loads(sys.argv[1])
    directory = Path(given["directory"])
    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    mine_data = MineDataModule(
        data_params=dict(  # noqa: C408 - as the tutorial has it
            mode="raw",
            dataset_dirs=given["dataset_dirs"],
            frame_width=given["size"],
            frame_height=given["size"],
            win_len=given["win_len"],
            enable_segment=True,
        ),
        batch_size=given["batch_size"],
        num_workers=given["num_workers"],
        prefetch_factor=4,
        split_ratio=0.95,
        shuffle_episodes=True,
        episode_continuous_batch=given["continuous"],
    )
    policy = RecurrentPolicy(
        hiddim=16, channels=4, observation_space=mine_data.observation_space, action_space=mine_data.action_space
    )
    write_down = WriteDown()
    mine_lightning = MineLightning(
        mine_policy=policy,
        log_freq=20,
        learning_rate=0.00004,
        weight_decay=0.001,
        warmup_steps=2000,
        callbacks=[BehaviorCloneCallback(weight=0.01), write_down],
    )
    several = {} if given["devices"] == 1 else {"strategy": "ddp_find_unused_parameters_true"}
    trainer = L.Trainer(
        accelerator="cpu",
        devices=given["devices"],
        max_epochs=given["epochs"],
        use_distributed_sampler=not given["continuous"],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            L.pytorch.callbacks.ModelCheckpoint(directory, filename="{step}", every_n_train_steps=4, save_top_k=-1)
        ],
        gradient_clip_val=1.0,
        **several,
    )
    trainer.fit(model=mine_lightning, datamodule=mine_data, ckpt_path=given["resume"], weights_only=True)
    (directory / f"seen-{trainer.global_rank}.json").write_text(json.dumps(write_down.seen))
    if torch.distributed.is_initialized():
        # Left to the interpreter's end, its threads sometimes abort it.
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

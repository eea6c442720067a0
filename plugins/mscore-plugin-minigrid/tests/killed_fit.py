"""A real fit for test_minigrid_resume: prints every batch's number and loss as hexadecimal floats."""

import sys

import lightning.pytorch as pl
import torch
from mscore_plugin_minigrid import MiniGridDataModule
from mscore_plugin_recurrent import RecurrentPolicy

from mscore import MineLightning, ObjectiveCallback


class Cloning(ObjectiveCallback):
    """The demonstrated actions' negative log-likelihood."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logprob = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        loss = -(logprob * batch["mask"]).sum() / batch["mask"].sum().clamp(min=1)
        return {"loss": loss}


class Report(pl.Callback):
    """Prints what was trained on."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        print(trainer.global_step, float(outputs["loss"]).hex(), flush=True)


def main():
    root, directory, workers, *resume = sys.argv[1:]
    torch.set_num_threads(1)
    pl.seed_everything(0)
    data = MiniGridDataModule(
        env="BabyAI-GoToObj-v0", episodes=16, root=root, win_len=3, batch_size=3, num_workers=int(workers)
    )
    data.prepare_data()
    policy = RecurrentPolicy(
        hiddim=16, channels=8, observation_space=data.observation_space, action_space=data.action_space
    )
    module = MineLightning(policy, [Cloning()], learning_rate=1e-2, warmup_steps=5)
    checkpoints = pl.callbacks.ModelCheckpoint(
        directory, filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=20, callbacks=[checkpoints, Report()], logger=False, enable_progress_bar=False
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume[0] if resume else None, weights_only=True)
    torch.save(module.state_dict(), f"{directory}/last.pt")


if __name__ == "__main__":
    main()

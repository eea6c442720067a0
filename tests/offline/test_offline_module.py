"""The offline module in real Lightning fits: losses, metrics, messages, resume."""

import csv

import lightning.pytorch as pl
import pytest
import torch
from gymnasium import spaces
from omegaconf import OmegaConf
from torch import nn

from mscore import MineLightning, MscoreError, ObjectiveCallback, convert_to_normal, tree_detach
from mscore.offline.csv_logger import CSVLogger
from mscore.testing import TinyPolicy, tiny_batch


class Cloning(ObjectiveCallback):
    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        loss = -mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"]).mean()
        return {"loss": loss * self.weight, "nll": loss.detach(), "weight": self.weight}


class Measure(ObjectiveCallback):
    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        return {"steps": float(batch_idx)}


def loader(steps=8, **kwargs):
    batches = [tiny_batch(start=4 * i, seed=i, **kwargs) for i in range(steps)]
    return torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=lambda batch: dict(batch))


def trainer(tmp_path, **kwargs):
    defaults = {
        "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": tmp_path,
    }  # fmt: skip
    return pl.Trainer(**{**defaults, **kwargs})


def test_defaults_are_the_documented_ones():
    module = MineLightning(TinyPolicy(), [Cloning()])
    pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["lr"] == 1e-5
    assert optimizer.defaults["weight_decay"] == 0.01
    assert schedule["interval"] == "step"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5 / 1000)
    assert module.log_freq == 20


def test_warm_up_reaches_the_full_rate(tmp_path):
    module = MineLightning(TinyPolicy(), [Cloning()], learning_rate=0.1, warmup_steps=4)
    rates = []

    class Rates(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    trainer(tmp_path, callbacks=[Rates()]).fit(module, loader(6))
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_losses_are_summed_and_metrics_kept_apart(tmp_path):
    module = MineLightning(
        TinyPolicy(), [Cloning(0.5), Cloning(2.0), Measure()], log_freq=4, learning_rate=0.0, weight_decay=0.0
    )
    trainer(tmp_path, logger=CSVLogger(tmp_path)).fit(module, loader(8), loader(2))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["1", "4", "8"]
    row = {key: float(value) for key, value in rows[1].items() if value}
    assert row["train/loss"] == pytest.approx(row["train/cloning/loss"] + row["train/cloning-2/loss"])
    assert row["train/cloning/loss"] == pytest.approx(0.5 * row["train/cloning/nll"])
    assert row["train/cloning-2/weight"] == 2.0
    # The mean since the last row (steps 2 to 4), not the last value.
    assert row["train/measure/steps"] == pytest.approx(2.0)
    assert float(rows[-1]["val/loss"]) > 0


def test_loss_falls_on_real_steps(tmp_path):
    module = MineLightning(TinyPolicy(), [Cloning()], learning_rate=0.05, warmup_steps=1)
    batch = tiny_batch()
    first = float(module.training_step(dict(batch), 0)["loss"])
    same = torch.utils.data.DataLoader([batch] * 40, batch_size=None, collate_fn=dict)
    trainer(tmp_path).fit(module, same)
    assert float(module.training_step(dict(batch), 0)["loss"]) < first / 2


def test_step_returns_loss_and_metrics():
    result = MineLightning(TinyPolicy(), [Cloning()]).training_step(tiny_batch(), 0)
    assert result["loss"].requires_grad
    assert set(result) >= {"train/cloning/loss", "train/cloning/nll", "train/cloning/weight", "train/loss"}
    result = MineLightning(TinyPolicy(), {"mine": Cloning()}).validation_step(tiny_batch(), 0)
    assert "val/mine/nll" in result


def test_validation_leaves_the_training_memory_alone(tmp_path):
    """M1: the peer's validation overwrites the memory and the timestamps of training."""
    states = []

    class Seen(TinyPolicy):
        def forward(self, input, state_in=None):
            if self.training:
                states.append(state_in)
            return super().forward(input, state_in)

    module = MineLightning(Seen(), [Cloning()])
    trainer(tmp_path, val_check_interval=2, num_sanity_val_steps=2).fit(module, loader(6), loader(3))
    assert states[0] is None
    assert all(state is not None for state in states[1:])


def test_metrics_are_not_stale(tmp_path):
    """M2: with another ``log_every_n_steps`` than ``log_freq`` the peer logs values of earlier batches."""
    for every in (1, 3, 50):
        folder = tmp_path / str(every)
        module = MineLightning(TinyPolicy(), [Measure(), Cloning()], log_freq=2)
        trainer(folder, logger=CSVLogger(folder), log_every_n_steps=every).fit(module, loader(8))
        rows = list(csv.DictReader((folder / "metrics.csv").open()))
        found = {int(row["step"]): float(row["train/measure/steps"]) for row in rows}
        assert found == {1: 0.0, 2: 1.0, 4: 2.5, 6: 4.5, 8: 6.5}


def test_config_containers_become_plain_hyperparameters(tmp_path):
    """M4: a DictConfig among the hyperparameters makes a checkpoint that cannot be loaded safely."""
    config = OmegaConf.create({"model": {"hiddim": 8, "twice": "${.hiddim}"}, "list": [1, 2]})
    module = MineLightning(TinyPolicy(), [Cloning()], hyperparameters=config)
    fit = trainer(tmp_path)
    fit.fit(module, loader(2))
    fit.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert saved["hyper_parameters"] == {"model": {"hiddim": 8, "twice": 8}, "list": [1, 2]}
    assert saved["hparams_name"] == "hyperparameters"
    assert type(convert_to_normal({"a": OmegaConf.create([1])})["a"]) is list


def test_importing_prints_nothing_and_defaults_are_not_shared(capsys):
    """M5: importing the peer's trainer prints environment variables; its defaults are mutable."""
    one, two = MineLightning(TinyPolicy(), [Cloning()]), MineLightning(TinyPolicy())
    assert not two.callbacks
    assert one.hparams is not two.hparams
    assert capsys.readouterr().out == ""


def test_tree_detach_keeps_the_nest():
    leaf = torch.ones(2, requires_grad=True) * 2
    tree = {"a": [leaf, (leaf, None)], "b": "text"}
    detached = tree_detach(tree)
    assert not detached["a"][0].requires_grad
    assert isinstance(detached["a"][1], tuple)
    assert detached["b"] == "text"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_objective_and_batch(tmp_path, bad):
    class Breaks(ObjectiveCallback):
        def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
            loss = latents["vpred"].mean()
            return {"loss": loss * (bad if batch_idx == 5 else 1.0)}

    module = MineLightning(TinyPolicy(), {"fine": Cloning(), "breaks": Breaks()}, learning_rate=0.1)
    with pytest.raises(MscoreError, match=r"objective 'breaks' gave a loss of -?(nan|inf) in train batch 5.*episode-0"):
        trainer(tmp_path).fit(module, loader(8))
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_a_bad_loss_on_a_device_is_found_at_the_flush_and_never_saved():
    """Without a sync per step: the window finds the first bad step, and saving is refused."""
    from mscore.offline.metrics import StepMetrics, Window

    window = Window()
    for step, value in enumerate([1.0, float("nan"), 2.0]):
        metrics = StepMetrics()
        metrics.add("train/bc/loss", torch.tensor(value))
        metrics.add("train/loss", torch.tensor(value))
        window.add(metrics, metrics.stacked(), ("train", 0, step, ["e"]))
    found = window.first_non_finite()
    assert found.name == "train/bc/loss"
    assert found.where[2] == 1
    module = MineLightning(TinyPolicy(), [Cloning()])
    module._windows["train"] = window
    with pytest.raises(MscoreError, match="train batch 1"):
        module.on_save_checkpoint({})


def test_no_loss_is_an_error():
    with pytest.raises(MscoreError, match=r"none of the objectives \(measure\) returned a 'loss'"):
        MineLightning(TinyPolicy(), [Measure()]).training_step(tiny_batch(), 0)


def test_a_declared_key_that_is_missing_is_named():
    class Needs(Cloning):
        needs_batch = frozenset({"instruction"})

    class NeedsLatent(Cloning):
        needs_latents = frozenset({"posterior_dist"})

    with pytest.raises(MscoreError, match="objective 'needs' needs 'instruction'"):
        MineLightning(TinyPolicy(), [Needs()]).training_step(tiny_batch(), 0)
    with pytest.raises(MscoreError, match="objective 'needs-latent' needs 'posterior_dist'"):
        MineLightning(TinyPolicy(), [NeedsLatent()]).training_step(tiny_batch(), 0)


def test_an_undeclared_key_that_is_missing_is_named():
    batch = tiny_batch()
    del batch["agent_action"]
    with pytest.raises(MscoreError, match=r"'cloning' asked for the key 'agent_action'.*pi_logits"):
        MineLightning(TinyPolicy(), [Cloning()]).training_step(batch, 0)


def test_an_action_outside_its_space_is_named():
    batch = tiny_batch()
    batch["agent_action"][0, 0] = 9
    with pytest.raises(MscoreError, match=r"an action of 9 lies outside the action space Discrete\(5\)"):
        MineLightning(TinyPolicy(), [Cloning()]).training_step(batch, 0)


def test_other_results_than_mappings_and_scalars_are_refused():
    class Wrong(ObjectiveCallback):
        def __init__(self, result):
            self.result = result

        def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
            return self.result

    with pytest.raises(MscoreError, match="returned Tensor; expected a mapping"):
        MineLightning(TinyPolicy(), [Wrong(torch.ones(()))]).training_step(tiny_batch(), 0)
    with pytest.raises(MscoreError, match=r"metric 'train/wrong/loss' has the shape \(2,\)"):
        MineLightning(TinyPolicy(), [Wrong({"loss": torch.ones(2)})]).training_step(tiny_batch(), 0)


def test_a_batch_that_is_no_dict_is_named():
    with pytest.raises(MscoreError, match="gave a train batch of type list; expected a dict"):
        MineLightning(TinyPolicy(), [Cloning()]).training_step([torch.zeros(2)], 0)


def test_an_objective_with_parameters_is_trained_and_saved(tmp_path):
    class Learned(nn.Module, ObjectiveCallback):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, batch, batch_idx, step_name, latents, mine_policy):
            return {"loss": (self.scale * latents["vpred"]).square().mean() + self.scale.square()}

        __call__ = nn.Module.__call__

    module = MineLightning(TinyPolicy(), {"learned": Learned()}, learning_rate=0.1, warmup_steps=1)
    trainer(tmp_path).fit(module, loader(8))
    assert float(module.callbacks["learned"].scale) < 1.0
    assert "objectives.learned.scale" in module.state_dict()


# A checkpoint between two accumulations holds no gradients, so only those after a step are exact.
@pytest.mark.parametrize(("stop", "accumulate"), [(1, 1), (3, 1), (7, 1), (4, 2), (6, 3)])
def test_a_resumed_fit_ends_bit_equal(tmp_path, stop, accumulate):
    class Dropping(TinyPolicy):
        def forward(self, input, state_in=None):
            return super().forward({**input, "image": torch.dropout(input["image"], 0.5, self.training)}, state_in)

    class Order:
        """Twelve batches an epoch, from wherever the fit stands."""

        def __init__(self, trainer):
            self.trainer = trainer

        def __len__(self):
            return 12

        def __iter__(self):
            done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed
            return (tiny_batch(start=4 * i, seed=i) for i in range(done, 12))

    class Replay(pl.LightningDataModule):
        def train_dataloader(self):
            return Order(self.trainer)

    def module():
        torch.manual_seed(0)
        return MineLightning(Dropping(), [Cloning()], learning_rate=0.01, warmup_steps=3)

    def fit(model, **kwargs):
        made = trainer(tmp_path, accumulate_grad_batches=accumulate, **kwargs)
        made.fit(model, datamodule=Replay(), ckpt_path=kwargs.pop("ckpt", None))
        return made

    class SaveAt(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx + 1 == stop:
                trainer.save_checkpoint(tmp_path / "stop.ckpt")

    whole = module()
    torch.manual_seed(1)
    fit(whole, callbacks=[SaveAt()])
    resumed = module()
    torch.manual_seed(99)
    made = trainer(tmp_path, accumulate_grad_batches=accumulate)
    made.fit(resumed, datamodule=Replay(), ckpt_path=tmp_path / "stop.ckpt", weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_with_a_wrapped_optimizer_resumes_without_averaging(tmp_path):
    """D6: without its EMA callback the peer fails on its own checkpoints with KeyError 'param_groups'."""
    fit = trainer(tmp_path)
    fit.fit(MineLightning(TinyPolicy(), [Cloning()]), loader(3))
    fit.save_checkpoint(tmp_path / "plain.ckpt")
    saved = torch.load(tmp_path / "plain.ckpt", weights_only=True)
    (state,) = saved["optimizer_states"]
    weights = list(saved["state_dict"].values())
    saved["optimizer_states"] = [
        {"opt": state, "ema": weights, "current_step": 3, "decay": 0.9, "every_n_steps": 1},
    ]
    torch.save(saved, tmp_path / "wrapped.ckpt")
    again = trainer(tmp_path, max_epochs=2)
    again.fit(MineLightning(TinyPolicy(), [Cloning()]), loader(3), ckpt_path=tmp_path / "wrapped.ckpt")
    assert again.global_step == 6


def test_bf16_and_clipping(tmp_path):
    module = MineLightning(TinyPolicy(spaces.Box(-1, 1, (2,))), [Cloning()], learning_rate=0.01)
    fit = trainer(tmp_path, precision="bf16-mixed", gradient_clip_val=1.0)
    fit.fit(module, loader(4, action_space=spaces.Box(-1, 1, (2,))))
    assert fit.global_step == 4


def test_csv_rows_survive_a_resume(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in (1, 2, 3):
        logger.log_metrics({"a": step}, step)
    logger.finalize("killed")
    again = CSVLogger(tmp_path)
    again.log_metrics({"a": 30, "b": 1}, 3)
    again.log_metrics({"c": 2}, 3)
    again.finalize("success")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [(row["step"], row["a"], row["b"]) for row in rows] == [
        ("1", "1.0", ""), ("2", "2.0", ""), ("3", "30.0", "1.0"),
    ]  # fmt: skip
    assert rows[-1]["c"] == "2.0"


def test_text_and_records_stay_as_they_are_when_tensors_are_moved():
    module = MineLightning(TinyPolicy(), [Cloning()])
    text = {
        "episode": ["a", "b"],
        "mission": [["go", "go"], ["stop", "stop"]],
        "meta_info": {"yaw": [[1.5, None], [None, None]], "inventory": [[[], [{"type": "log"}]], [None, None]]},
    }
    moved = module.transfer_batch_to_device(
        {**text, "image": torch.zeros(2, 3), "segmentation": {"event": [[""]], "masks": [torch.zeros(2)]}},
        torch.device("meta"),
        0,
    )
    for name, value in text["meta_info"].items():
        assert moved["meta_info"][name] is value
    assert moved["mission"] is text["mission"]
    assert moved["image"].device.type == moved["segmentation"]["masks"][0].device.type == "meta"

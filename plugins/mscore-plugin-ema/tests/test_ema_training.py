"""The callback in real fits: what is averaged, when it is in place, and that it always goes again."""

import os
import signal
import warnings
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning, LearningRateFinder
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from mscore_plugin_ema import EMA, EMAOptimizer
from torch import nn

from mscore import AveragedWeights


def trained(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def averaged(callback: EMA, module: nn.Module) -> dict[str, torch.Tensor]:
    with callback.averaged_weights_in_place():
        return trained(module)


@pytest.mark.parametrize("settings", [{"decay": -0.1}, {"decay": 1.5}, {"decay": float("nan")}])
def test_a_decay_outside_the_unit_interval_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException, match="between 0 and 1"):
        EMA(**settings)


def test_an_interval_of_zero_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="every_n_steps"):
        EMA(0.9, every_n_steps=0)


@pytest.mark.parametrize(
    ("every", "accumulate", "offload"), [(1, 1, False), (3, 1, False), (2, 2, False), (1, 1, True)]
)
def test_the_average_of_a_fit(
    tiny, data, trainer, reference, close, every: int, accumulate: int, offload: bool
) -> None:
    """Parameters and running statistics are averaged per optimizer step; integer buffers stay (D14)."""
    module = tiny(norm=True)
    callback, expected = EMA(0.8, every_n_steps=every, cpu_offload=offload), reference(0.8, every)
    trainer(callback, expected, max_epochs=2, accumulate_grad_batches=accumulate).fit(module, data())
    assert isinstance(callback, AveragedWeights)
    result = averaged(callback, module)
    assert close(result, expected.average)
    assert not torch.allclose(result["norm.running_mean"], module.norm.running_mean)
    assert result["norm.num_batches_tracked"] == module.norm.num_batches_tracked


def test_masks_with_infinite_entries_stay_as_they_are(tiny, data, trainer) -> None:
    module = tiny()
    mask = torch.tensor([0.0, float("-inf")])
    module.register_buffer("mask", mask.clone())
    module.register_buffer("scratch", torch.ones(1), persistent=False)
    callback = EMA(0.5)
    trainer(callback).fit(module, data())
    assert torch.equal(averaged(callback, module)["mask"], mask)


@pytest.mark.parametrize("what", ["validate", "test", "predict"])
def test_evaluation_after_a_fit_uses_the_average_and_gives_it_back(tiny, data, trainer, close, what: str) -> None:
    module = tiny(norm=True)
    callback = EMA(0.8)
    run = trainer(callback)
    run.fit(module, data())
    before, expected = trained(module), averaged(callback, module)
    getattr(run, what)(module, data(1), **({"verbose": False} if what != "predict" else {}))
    assert close(module.seen[-1], expected, atol=0)
    assert not close(module.seen[-1], before)
    assert close(trained(module), before, atol=0)


def test_validation_during_fit_uses_the_average_of_that_step(tiny, data, trainer, reference, close) -> None:
    module, expected = tiny(), reference(0.8)
    trainer(EMA(0.8), expected, max_epochs=3).fit(module, data(), data(1))
    assert close(module.seen[-1], expected.average)
    module, plain = tiny(), reference(0.8)
    trainer(EMA(0.8, validate_original_weights=True), plain, max_epochs=3).fit(module, data(), data(1))
    assert close(module.seen[-1], trained(module), atol=0)


def test_the_sanity_check_runs_on_the_weights_themselves(tiny, data, trainer, close) -> None:
    module = tiny()
    initial = trained(module)
    trainer(EMA(0.8), num_sanity_val_steps=1).fit(module, data(), data(1))
    assert close(module.seen[0], initial, atol=0)


def test_training_is_the_same_with_and_without(tiny, data, trainer) -> None:
    results = []
    for callbacks in ([], [EMA(0.9)]):
        torch.manual_seed(3)
        module = tiny(norm=True)
        trainer(*callbacks, max_epochs=2).fit(module, data(), data(1))
        results.append(trained(module))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_optimizers_are_wrapped_once_however_often_fit_is_called(tiny, data, trainer) -> None:
    module = tiny()
    one = torch.optim.SGD(module.parameters(), lr=0.01)
    module.configure_optimizers = lambda: one
    callback = EMA(0.9)
    run = trainer(callback)
    for epochs in (1, 2, 3):
        run.fit_loop.max_epochs = epochs
        run.fit(module, data())
        assert isinstance(run.optimizers[0], EMAOptimizer)
        assert run.optimizers[0].optimizer is one


class Adversaries(pl.LightningModule):
    """Two optimizers, stepped by hand at different rates."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(3, 1), nn.Linear(3, 1)
        self.expected: dict[str, torch.Tensor] = {}

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for optimizer, part, every in zip(self.optimizers(), (self.one, self.two), (1, 3), strict=True):
            if batch_idx % every:
                continue
            optimizer.zero_grad()
            self.manual_backward(part(batch).square().mean())
            optimizer.step()
            for name, value in part.named_parameters():
                key = f"{'one' if part is self.one else 'two'}.{name}"
                self.expected[key] = 0.5 * self.expected[key] + 0.5 * value.detach()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        self.expected = trained(self)
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.one, self.two)]


def test_each_of_several_optimizers_has_its_average(data, trainer, close) -> None:
    module, callback = Adversaries(), EMA(0.5)
    trainer(callback).fit(module, data())
    assert close(averaged(callback, module), module.expected)
    assert [o.updates for o in callback._optimizers] == [8, 3]


@pytest.mark.parametrize("optimizer", ["adamw", "fused"])
def test_steps_that_the_scaler_skips_are_not_averaged(tiny, data, trainer, reference, close, optimizer: str) -> None:
    """D8, through Lightning's own precision plugin, with the gradient clipping of the tutorial."""
    module = tiny(optimizer=optimizer)
    callback = EMA(0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=100)  # overflows at first
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    run = trainer(callback, plugins=[plugin], gradient_clip_val=1.0, max_epochs=6)
    run.fit(module, data())
    wrapper = run.optimizers[0]
    assert scaler.get_scale() < 2.0**40
    taken = int(next(iter(wrapper.state.values()))["step"])
    assert 0 < taken < 48
    assert wrapper.updates == wrapper.current_step == taken


def test_bfloat16_weights_have_a_float32_average(tiny, data, trainer) -> None:
    module, callback = tiny(), EMA(0.99)
    run = trainer(callback, precision="bf16-true")
    run.fit(module, data())
    assert module.body.weight.dtype == torch.bfloat16
    assert all(average.dtype == torch.float32 for average in run.optimizers[0].ema_params)
    assert averaged(callback, module)["body.weight"].dtype == torch.bfloat16


def test_an_exception_in_validation_leaves_the_trained_weights(tiny, data, trainer, close) -> None:
    module = tiny()
    module.raise_in_validation_at = 8
    kept: dict[str, torch.Tensor] = {}

    class Keep(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            kept.update(trained(module))

    seen = []
    module.on_validate = lambda: seen.append(module.body.weight.detach().clone())
    with pytest.raises(RuntimeError, match="validation failed"):
        trainer(EMA(0.8), Keep(), val_check_interval=8, max_epochs=1).fit(module, data(), data(1))
    after = dict(module.named_parameters())
    assert not torch.allclose(seen[-1], after["body.weight"])
    loss = module.training_step(next(iter(data())), 0)
    loss.backward()
    assert torch.equal(module.state_dict()["body.weight"], after["body.weight"])


def test_sigterm_in_validation_leaves_the_trained_weights(tiny, data, trainer) -> None:
    module = tiny()
    looked = []

    def stop() -> None:
        looked.append(module.body.weight.detach().clone())
        if module.global_step:
            os.kill(os.getpid(), signal.SIGTERM)

    module.on_validate = stop
    with pytest.raises((SIGTERMException, SystemExit)):
        trainer(EMA(0.8)).fit(module, data(), data(1))
    assert not torch.allclose(looked[-1], module.body.weight)


def test_state_dict_shows_trained_weights_while_averaged_ones_are_evaluated(tiny, data, trainer, close) -> None:
    module, callback = tiny(norm=True), EMA(0.8)
    shown: list[dict[str, torch.Tensor]] = []
    inside: list[dict[str, torch.Tensor]] = []

    def look() -> None:
        shown.append(trained(module))
        inside.append(averaged(callback, module))

    module.on_validate = look
    run = trainer(callback)
    run.fit(module, data(), data(1))
    after = trained(module)
    assert close(shown[-1], after, atol=0)
    assert close(inside[-1], averaged(callback, module), atol=0)
    assert not close(inside[-1], after)
    assert module.seen[-1]["body.weight"].equal(inside[-1]["body.weight"])


def test_the_context_is_re_entrant_and_survives_errors(tiny, data, trainer, close) -> None:
    module, callback = tiny(), EMA(0.8)
    run = trainer(callback)
    with callback.averaged_weights_in_place():
        assert not callback.has_averaged_weights
    run.fit(module, data())
    before = trained(module)

    def fail() -> None:
        with callback.averaged_weights_in_place():
            with callback.averaged_weights_in_place():
                pass
            assert not close(trained(module), before)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert close(trained(module), before, atol=0)


def test_the_documented_contexts(tiny, data, trainer, close) -> None:
    module, callback = tiny(), EMA(0.8)
    run = trainer(callback)
    run.fit(module, data())
    before, expected = trained(module), averaged(callback, module)
    with callback.save_ema_model(run):
        assert close(trained(module), expected, atol=0)
    callback.swap_model_weights(run)
    assert module.body.weight.equal(expected["body.weight"])
    assert close(trained(module), before, atol=0)
    callback.swap_model_weights(run)
    callback.swap_model_weights(run, saving_ema_model=True)
    assert close(trained(module), expected, atol=0)
    callback.swap_model_weights(run)
    assert module.body.weight.equal(before["body.weight"])
    wrapper = run.optimizers[0]
    wrapper.save_original_optimizer_state = False
    with callback.save_original_optimizer_state(run):
        assert "param_groups" in wrapper.state_dict()
    assert set(wrapper.state_dict()) >= {"opt", "ema"}


def test_an_average_that_learned_nothing_is_reported(tiny, data, trainer) -> None:
    with pytest.warns(UserWarning, match=r"after 8 updates with decay 0.9999.*100%"):
        trainer(EMA(0.9999)).fit(tiny(), data())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*EMA.*")
        trainer(EMA(0.5)).fit(tiny(), data())


def test_another_module_is_not_evaluated_with_this_ones_average(tiny, data, trainer, close) -> None:
    module, other, callback = tiny(), tiny(), EMA(0.8)
    run = trainer(callback)
    run.fit(module, data())
    run.test(other, data(1), verbose=False)
    assert close(other.seen[-1], trained(other), atol=0)


def test_tied_weights_and_frozen_parts(tiny, data, trainer) -> None:
    module = tiny(width=1)
    module.also_head = module.head
    module.teacher = nn.Linear(2, 2).requires_grad_(False)
    module.configure_optimizers = lambda: torch.optim.SGD(
        [*module.body.parameters(), *module.head.parameters()], lr=0.1
    )
    callback = EMA(0.5)
    run = trainer(callback)
    run.fit(module, data())
    checkpoint: dict[str, Any] = {}
    callback.on_save_checkpoint(run, module, checkpoint)
    names = set(checkpoint["averaged_weights"])
    assert {"head.weight", "also_head.weight"} <= names
    assert not any(name.startswith("teacher") for name in names)


class Unfreeze(BaseFinetuning):
    """Trains the body from the second epoch on."""

    def freeze_before_training(self, pl_module: pl.LightningModule) -> None:
        self.freeze(pl_module.body)

    def finetune_function(self, pl_module: pl.LightningModule, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.body, optimizer, lr=0.05)


@pytest.mark.parametrize("ema_first", [True, False])
def test_parameters_that_are_unfrozen_later_have_an_average_that_resumes(
    tiny, data, trainer, tmp_path, ema_first: bool
) -> None:
    def fit(epochs: int, resume: Any = None) -> tuple[EMA, pl.LightningModule, pl.Trainer]:
        module, callback = tiny(), EMA(0.5)
        module.configure_optimizers = lambda: torch.optim.SGD(
            [p for p in module.parameters() if p.requires_grad], lr=0.05
        )
        callbacks = [callback, Unfreeze()] if ema_first else [Unfreeze(), callback]
        run = trainer(*callbacks, max_epochs=epochs)
        run.fit(module, data(), ckpt_path=resume)
        return callback, module, run

    callback, module, run = fit(2)
    before = averaged(callback, module)
    assert not torch.equal(before["body.weight"], module.body.weight)
    run.save_checkpoint(tmp_path / "x.ckpt")
    again, resumed, _ = fit(2, str(tmp_path / "x.ckpt"))
    again._optimizers[0].start()
    after = averaged(again, resumed)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_learning_rate_finder_runs_before_the_average_starts(tiny, data, trainer, tmp_path) -> None:
    module, callback = tiny(), EMA(0.5)
    module.lr = 0.01
    finder = LearningRateFinder(num_training_steps=5, attr_name="lr", early_stop_threshold=None)
    trainer(finder, callback, default_root_dir=tmp_path, enable_checkpointing=True).fit(module, data())
    assert callback._optimizers[0].updates == 8


def test_strategies_that_shard_parameters_are_refused(tiny, trainer) -> None:
    run = trainer()
    run.strategy.__class__ = type("Sharding", (FSDPStrategy,), {})
    with pytest.raises(MisconfigurationException, match="Sharding shards; use ddp"):
        EMA(0.5).setup(run, tiny(), "fit")

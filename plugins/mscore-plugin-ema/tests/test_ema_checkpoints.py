"""Checkpoints: what they hold, and every way of going on from them."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from mscore_plugin_ema import EMA, EMAOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mscore import AVERAGED_OF_KEY, AVERAGED_WEIGHTS_KEY


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def clone(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def average_of(callback: EMA, module: nn.Module) -> dict[str, Tensor]:
    with callback.averaged_weights_in_place():
        return clone(module)


@pytest.fixture
def fitted(tiny, data, trainer, tmp_path):
    """A fit of 8 steps with EMA, saved as plain.ckpt: (module, callback, trainer, path)."""
    module, callback = tiny(norm=True), EMA(0.8)
    run = trainer(callback)
    run.fit(module, data())
    path = tmp_path / "plain.ckpt"
    run.save_checkpoint(path)
    return module, callback, run, path


def write_twin(path: Path, module: nn.Module, callback: EMA, step: int | None = None) -> Path:
    checkpoint = read(path)
    twin = {key: checkpoint[key] for key in ("epoch", "global_step", "pytorch-lightning_version", "loops")}
    twin |= {"state_dict": average_of(callback, module), "callbacks": {}}
    twin |= {AVERAGED_OF_KEY: checkpoint["global_step"] if step is None else step}
    twin_path = path.with_name("plain-EMA.ckpt")
    torch.save(twin, twin_path)
    return twin_path


def peer_layout(path: Path) -> None:
    """Rewrite a checkpoint as the seed lays it out: averages listed per optimizer, without names."""
    checkpoint = read(path)
    average = checkpoint.pop(AVERAGED_WEIGHTS_KEY)
    names = ["body.weight", "body.bias", "norm.weight", "norm.bias", "head.weight", "head.bias"]
    checkpoint["callbacks"] = {}
    checkpoint["optimizer_states"] = [
        {
            "opt": checkpoint["optimizer_states"][0],
            "ema": [average[name] for name in names],
            "current_step": 8,
            "decay": 0.8,
            "every_n_steps": 1,
        }
    ]
    torch.save(checkpoint, path)


def test_a_checkpoint_holds_the_average_by_name_and_plain_optimizer_states(fitted) -> None:
    """D11: a list without names cannot be checked against the model."""
    module, callback, _, path = fitted
    checkpoint = read(path)
    expected = average_of(callback, module)
    average = checkpoint[AVERAGED_WEIGHTS_KEY]
    assert {"body.weight", "norm.running_mean", "norm.running_var"} <= set(average) < set(checkpoint["state_dict"])
    assert all(torch.equal(average[name], expected[name]) for name in average)
    assert same(checkpoint["state_dict"], clone(module))
    assert set(checkpoint["optimizer_states"][0]) == {"state", "param_groups"}


@pytest.mark.parametrize("stop", [1, 10, 11])
def test_resuming_is_exact(tiny, trainer, tmp_path, stop: int) -> None:
    # The same batch at every step, as a plain loader would start its epoch again.
    loader = DataLoader([torch.randn(4, 3)] * 16, batch_size=None)

    def fit(steps: int, resume: Path | None = None) -> tuple[pl.Trainer, dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(2)
        module, callback = tiny(norm=True), EMA(0.9, every_n_steps=2)
        run = trainer(callback, max_steps=steps, max_epochs=-1)
        run.fit(module, loader, ckpt_path=resume and str(resume))
        return run, clone(module), average_of(callback, module)

    _, weights, average = fit(16)
    fit(stop)[0].save_checkpoint(tmp_path / "x.ckpt")
    _, resumed_weights, resumed_average = fit(16, tmp_path / "x.ckpt")
    assert same(resumed_weights, weights)
    assert same(resumed_average, average)


def test_the_average_and_counters_of_a_checkpoint_are_taken_over_exactly(fitted, tiny, trainer, data) -> None:
    module, callback, _, path = fitted
    fresh, again = tiny(norm=True), EMA(0.8)
    resumed = trainer(again, max_epochs=1)
    resumed.fit(fresh, data(), ckpt_path=str(path))  # the epoch is over: nothing is trained
    assert same(clone(fresh), clone(module))
    assert same(average_of(again, fresh), average_of(callback, module))
    assert [again._optimizers[0].current_step, again._optimizers[0].updates] == [8, 8]


def test_training_goes_on_from_the_average(fitted, tiny, trainer, data, reference, close) -> None:
    module, callback, _, path = fitted
    fresh, again, expected = tiny(norm=True), EMA(0.8), reference(0.8)
    expected.average = {k: v for k, v in average_of(callback, module).items() if v.is_floating_point()}
    trainer(again, expected, max_epochs=2).fit(fresh, data(), ckpt_path=str(path))
    assert close(average_of(again, fresh), expected.average)
    assert again._optimizers[0].updates == 16


def test_ema_off_resumes_plainly(fitted, tiny, trainer, data) -> None:
    """D6: KeyError 'param_groups'."""
    path = fitted[3]
    fresh = tiny(norm=True)
    run = trainer(max_epochs=2)
    run.fit(fresh, data(), ckpt_path=str(path))
    assert run.global_step == 16
    assert int(next(iter(run.optimizers[0].state.values()))["step"]) == 16


def test_ema_on_for_a_plain_checkpoint_says_what_to_do(tiny, trainer, data, tmp_path) -> None:
    """D6: KeyError 'opt'."""
    module = tiny()
    run = trainer()
    run.fit(module, data())
    path = tmp_path / "plain.ckpt"
    run.save_checkpoint(path)
    with pytest.raises(MisconfigurationException, match=r"has no averaged weights.*-EMA"):
        trainer(EMA(0.5), max_epochs=2).fit(tiny(), data(), ckpt_path=str(path))
    renamed = tmp_path / "start-EMA.ckpt"  # the remedy that the message names
    shutil.copy(path, renamed)
    callback = EMA(0.5)
    resumed = trainer(callback, max_epochs=2)
    resumed.fit(tiny(), data(), ckpt_path=str(renamed))
    assert resumed.global_step == 16
    assert callback._optimizers[0].updates == 8


def test_a_checkpoint_from_before_the_first_step_starts_an_average(tiny, trainer, data, tmp_path) -> None:
    path = tmp_path / "zero.ckpt"

    class SaveFirst(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.save_checkpoint(path)

    trainer(EMA(0.5), SaveFirst()).fit(tiny(), data())
    assert AVERAGED_WEIGHTS_KEY not in read(path)
    callback = EMA(0.5)
    trainer(callback).fit(tiny(), data(), ckpt_path=str(path))
    assert callback._optimizers[0].updates == 8


def test_the_twin_serves_where_the_file_has_no_average(fitted, tiny, trainer, data) -> None:
    module, callback, _, path = fitted
    write_twin(path, module, callback)
    checkpoint = read(path)
    del checkpoint[AVERAGED_WEIGHTS_KEY]
    checkpoint["callbacks"] = {}
    torch.save(checkpoint, path)
    fresh, again = tiny(norm=True), EMA(0.8)
    trainer(again).fit(fresh, data(), ckpt_path=str(path))
    assert same(average_of(again, fresh), average_of(callback, module))
    write_twin(path, module, callback, step=7)
    with (
        pytest.warns(UserWarning, match="step 7.*not saved together"),
        pytest.raises(MisconfigurationException, match="no averaged weights"),
    ):
        trainer(EMA(0.8)).fit(tiny(norm=True), data(), ckpt_path=str(path))


@pytest.mark.parametrize("beside", [True, False])
def test_resuming_from_a_twin_makes_its_weights_the_trained_ones(fitted, tiny, trainer, data, beside: bool) -> None:
    """D2: the next save crashed. Documented: a new average starts from the averaged weights."""
    module, callback, _, path = fitted
    twin = write_twin(path, module, callback)
    expected = average_of(callback, module)
    fresh, again = tiny(norm=True), EMA(0.8)
    begin: list[dict[str, Tensor]] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            begin.append(clone(pl_module))

    run = trainer(again, Look(), max_epochs=2)
    if beside:
        run.fit(fresh, data(), ckpt_path=str(twin))
    else:
        path.unlink()
        with pytest.warns(UserWarning, match="start afresh"):
            run.fit(fresh, data(), ckpt_path=str(twin))
    assert same(begin[0], expected)
    assert run.global_step == 16
    assert again._optimizers[0].updates == 8
    moments = int(next(iter(run.optimizers[0].state.values()))["step"])
    assert moments == (16 if beside else 8)
    run.save_checkpoint(twin.with_name("next.ckpt"))
    assert same(read(twin.with_name("next.ckpt"))["state_dict"], clone(fresh))


def test_the_peers_layout_is_resumed(fitted, tiny, trainer, data, close) -> None:
    module, callback, _, path = fitted
    expected = average_of(callback, module)
    peer_layout(path)
    fresh, again = tiny(norm=True), EMA(0.8)
    trainer(again).fit(fresh, data(), ckpt_path=str(path))
    parameters = {name: expected[name] for name, _ in module.named_parameters()}
    assert close(average_of(again, fresh), parameters, atol=0)
    assert again._optimizers[0].current_step == 8
    reader = trainer(EMA(0.8))
    fresh = tiny(norm=True)
    reader.test(fresh, data(1), ckpt_path=str(path), verbose=False)
    assert close(fresh.seen[-1], parameters, atol=0)


def test_the_configured_decay_wins_with_one_warning(fitted, tiny, trainer, data) -> None:
    """D10: configured 0.5 / 3 was silently replaced by the checkpoint's 0.8 / 1."""
    path = fitted[3]
    for layout in ("ours", "peer"):
        if layout == "peer":
            peer_layout(path)
        callback = EMA(0.5, every_n_steps=3)
        with pytest.warns(UserWarning, match="other settings") as caught:
            trainer(callback, max_epochs=2).fit(tiny(norm=True), data(), ckpt_path=str(path))
        told = [str(w.message) for w in caught if "EMA" in str(w.message)]
        assert len(told) == 1
        assert "decay 0.8 -> 0.5" in told[0]
        assert "every_n_steps 1 -> 3" in told[0]
        assert (callback._optimizers[0].decay, callback._optimizers[0].every_n_steps) == (0.5, 3)
        assert callback._optimizers[0].updates == 8 + 3


def test_reordered_groups_keep_their_averages(fitted, tiny, trainer, data) -> None:
    """D11: averages went by position, so that same-shaped tensors were mixed silently."""
    module, callback, _, path = fitted
    checkpoint = read(path)
    checkpoint["optimizer_states"] = []
    torch.save(checkpoint, path)
    fresh, again = tiny(norm=True), EMA(0.8)
    fresh.configure_optimizers = lambda: torch.optim.SGD([*fresh.parameters()][::-1], lr=0.1)
    trainer(again).fit(fresh, data(), ckpt_path=str(path))
    assert same(average_of(again, fresh), average_of(callback, module))


def test_averages_of_another_model_are_refused_by_name(fitted, tiny, trainer, data) -> None:
    path = fitted[3]
    checkpoint = read(path)
    checkpoint[AVERAGED_WEIGHTS_KEY]["body.weight"] = torch.zeros(2, 2)
    torch.save(checkpoint, path)
    with pytest.raises(MisconfigurationException, match=r"body\.weight has shape \(2, 2\) there and \(4, 3\)"):
        trainer(EMA(0.8)).fit(tiny(norm=True), data(), ckpt_path=str(path))


@pytest.mark.parametrize("what", ["validate", "test", "predict"])
@pytest.mark.parametrize("kind", ["plain", "twin", "weights"])
def test_stand_alone_evaluation_uses_the_average_of_the_file(fitted, tiny, trainer, data, what: str, kind: str) -> None:
    """D7: raw weights were evaluated without a word."""
    module, callback, run, path = fitted
    twin = write_twin(path, module, callback)
    if kind == "weights":
        run.save_checkpoint(path, weights_only=True)
    fresh = tiny(norm=True)
    quiet = {"verbose": False} if what != "predict" else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*EMA.*")
        getattr(trainer(EMA(0.8)), what)(fresh, data(1), ckpt_path=str(twin if kind == "twin" else path), **quiet)
    expected = average_of(callback, module)
    assert all(torch.equal(fresh.seen[-1][name], expected[name]) for name in fresh.seen[-1])
    assert same(clone(fresh), expected if kind == "twin" else clone(module))
    fresh.training_step(next(iter(data())), 0).backward()


def test_evaluating_a_file_without_average_is_said(tiny, trainer, data, tmp_path) -> None:
    run = trainer()
    run.fit(tiny(), data())
    run.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.warns(UserWarning, match="has no averaged weights; its trained weights are evaluated"):
        trainer(EMA(0.8)).test(tiny(), data(1), ckpt_path=str(tmp_path / "x.ckpt"), verbose=False)


def test_the_best_checkpoint_is_tested_with_its_own_average(tiny, trainer, data, tmp_path) -> None:
    """D4: the weights of the best step were replaced by the average of the last."""
    module, callback = tiny(norm=True), EMA(0.5)
    saver = ModelCheckpoint(dirpath=tmp_path, monitor="val_loss", mode="max", filename="{step}")
    run = trainer(callback, saver, enable_checkpointing=True, max_epochs=4)
    run.fit(module, data(), data(1))
    best = read(Path(saver.best_model_path))
    assert best["global_step"] < run.global_step
    run.test(ckpt_path="best", dataloaders=data(1), verbose=False)
    average = best[AVERAGED_WEIGHTS_KEY]
    assert all(torch.equal(module.seen[-1][name], average[name]) for name in average)
    assert same(clone(module), best["state_dict"])
    run.test(module, data(1), verbose=False)
    assert all(torch.equal(module.seen[-1][name], average[name]) for name in average)


@pytest.mark.parametrize("weights_only", [True, False])
def test_whatever_is_saved_during_validation_holds_the_trained_weights(
    tiny, trainer, data, tmp_path, weights_only
) -> None:
    """D5: a save while swapped wrote averaged weights as trained ones."""
    module, callback = tiny(norm=True), EMA(0.8)
    run = trainer(callback, num_sanity_val_steps=0)
    module.on_validate = lambda: run.save_checkpoint(tmp_path / "x.ckpt", weights_only=weights_only)
    run.fit(module, data(), data(1))
    checkpoint = read(tmp_path / "x.ckpt")
    assert same(checkpoint["state_dict"], clone(module))
    assert not torch.equal(module.seen[-1]["body.weight"], module.body.weight)


@pytest.mark.parametrize("with_ema_last", [True, False])
def test_a_save_on_exception_in_validation_holds_the_trained_weights(
    tiny, trainer, data, tmp_path, with_ema_last
) -> None:
    """D5, by way of ModelCheckpoint(save_on_exception=True)."""
    module, callback = tiny(), EMA(0.8)
    module.raise_in_validation_at = 8
    saver = ModelCheckpoint(dirpath=tmp_path, save_on_exception=True, filename="{step}", every_n_epochs=100)
    order = (saver, callback) if with_ema_last else (callback, saver)
    with pytest.raises(RuntimeError, match="validation failed"):
        trainer(*order, enable_checkpointing=True).fit(module, data(), data(1))
    checkpoint = read(tmp_path / "step=8.ckpt")
    assert same(checkpoint["state_dict"], clone(module))
    assert not torch.equal(module.seen[-1]["body.weight"], module.body.weight)
    assert torch.equal(module.seen[-1]["body.weight"], checkpoint[AVERAGED_WEIGHTS_KEY]["body.weight"])


def test_float32_averages_survive_a_resume_in_bfloat16(tiny, trainer, data, tmp_path) -> None:
    module, callback = tiny(), EMA(0.99)
    run = trainer(callback, precision="bf16-true")
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "x.ckpt")
    again = EMA(0.99)
    resumed = trainer(again, precision="bf16-true")
    resumed.fit(tiny(), data(), ckpt_path=str(tmp_path / "x.ckpt"))
    wrappers: list[EMAOptimizer] = [run.optimizers[0], resumed.optimizers[0]]
    assert all(torch.equal(a, b) for a, b in zip(wrappers[0].ema_params, wrappers[1].ema_params, strict=True))

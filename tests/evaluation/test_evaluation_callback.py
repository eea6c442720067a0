"""Evaluation while training: when, with which weights, where it is written; and training unaffected."""

import json
import subprocess
import sys
from contextlib import contextmanager

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from mscore.config import Evaluation
from mscore.contracts.environment import CallableEnvironment
from mscore.errors import MscoreError
from mscore.evaluation import EvaluationCallback, rollout, summarize
from mscore.evaluation.callback import read_history


class Imitation(pl.LightningModule):
    """Least that a policy can be trained with: noise for it to remember, and dropout that draws numbers."""

    def __init__(self, policy):
        super().__init__()
        self.mine_policy = policy

    def training_step(self, batch, batch_idx):
        rows = batch[0].shape[0]
        window = {
            "place": batch[0],
            "memo": [["left"]] * rows,
            "grid": torch.zeros(rows, 1, 2),
            "first": torch.ones(rows, 1, dtype=torch.bool),
        }
        latents, _ = self.mine_policy(window, None)
        return latents["vpred"].square().mean() + self.mine_policy.pi_head.entropy(latents["pi_logits"]).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def loader():
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(40, 1, 2)), batch_size=4, shuffle=True
    )


pytestmark = pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`", "ignore:You're resuming from a checkpoint that ended before"
)


@pytest.fixture
def fit(walker, tmp_path):
    """Train ``walker`` for some steps, the evaluation's files being in ``tmp_path``."""

    def run(*callbacks, max_steps=10, ckpt_path=None, policy=walker, **arguments):
        torch.manual_seed(0)
        arguments = {"logger": False, "enable_checkpointing": False, **arguments}
        trainer = pl.Trainer(
            max_steps=max_steps,
            accelerator="cpu",
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **arguments,
        )
        trainer.fit(Imitation(policy), loader(), ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.fixture
def evaluation(corridor, tmp_path):
    def make(environment=corridor, **settings):
        return EvaluationCallback(environment, Evaluation(**{"episodes": 5, **settings}), tmp_path)

    return make


def steps(callback):
    return [row.step for row in callback.history]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 10]),
        ({"at_start": False}, [10]),
        ({"every_n_steps": 4}, [0, 4, 8, 10]),
        ({"every_n_steps": 5, "at_start": False}, [5, 10]),
    ],
)
def test_when(fit, evaluation, settings, expected):
    callback = evaluation(**settings)
    fit(callback)
    assert steps(callback) == expected


def test_steps_are_the_optimizers(fit, evaluation):
    callback = evaluation(every_n_steps=2)
    fit(callback, max_steps=4, accumulate_grad_batches=3)
    assert steps(callback) == [0, 2, 4]


@pytest.mark.parametrize("deterministic", [True, False])
def test_training_is_bitwise_the_same(make_policy, fit, evaluation, corridor, deterministic):
    def train(*callbacks):
        torch.manual_seed(3)
        env = corridor.make()
        policy = make_policy(env.observation_space, env.action_space)
        fit(*callbacks, policy=policy, max_steps=25)
        return [*policy.state_dict().values(), torch.rand(3)]

    plain, evaluated = train(), train(evaluation(every_n_steps=3, deterministic=deterministic))
    assert all(map(torch.equal, plain, evaluated))


def test_what_is_written(fit, evaluation, walker, corridor, tmp_path, caplog):
    callback = evaluation(every_n_steps=5)
    with caplog.at_level("INFO", "lightning.pytorch"):
        trainer = fit(callback, logger=CSVLogger(tmp_path, "logs", ""))
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 10]
    assert {line["weights"] for line in lines} == {"trained"}
    assert lines[0]["time"].endswith("+00:00")
    assert read_history(tmp_path / "evaluations.jsonl") == callback.history
    final = summarize(rollout(walker, corridor, episodes=5, seed=1_000_000))
    assert callback.history[-1].summary == final
    assert f"evaluation at step 10 (trained weights): {final}" in caplog.text
    for key, value in final.metrics().items():
        assert trainer.callback_metrics[key] == pytest.approx(value)
    logged = (tmp_path / "logs" / "metrics.csv").read_text().splitlines()
    assert {"eval/success", "eval/return", "eval/length", "step"} <= set(logged[0].split(","))
    assert len(logged) == 4


def test_checkpoints_and_stopping_watch_it(fit, evaluation, tmp_path):
    best = ModelCheckpoint(tmp_path / "best", monitor="eval/return", mode="max", every_n_train_steps=4, save_top_k=-1)
    stopping = EarlyStopping("eval/success", mode="max", patience=100)
    callback = evaluation(every_n_steps=4)
    fit(best, stopping, callback, max_steps=22, enable_checkpointing=True, log_every_n_steps=1)
    by_step = {row.step: row.summary.return_mean for row in callback.history}
    scores = [float(score) for score in best.best_k_models.values()]
    assert sorted(scores) == pytest.approx(sorted(by_step[step] for step in (4, 8, 12, 16, 20)))
    assert stopping.best_score == pytest.approx(max(row.summary.success_rate for row in callback.history))


def test_a_kill_after_an_evaluation_is_resumed(fit, evaluation, tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    whole = evaluation(every_n_steps=4)
    fit(saved, whole, max_steps=14, enable_checkpointing=True)
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 14, "ti')  # a kill cut it off
    again = evaluation(every_n_steps=4)
    trainer = fit(again, max_steps=14, ckpt_path=tmp_path / "saved" / "step=8.ckpt")
    assert trainer.global_step == 14
    assert steps(again) == [0, 4, 8, 12, 14]
    assert again.history[:3] == whole.history[:3]
    assert read_history(tmp_path / "evaluations.jsonl") == again.history


def test_metrics_are_there_after_a_resume(fit, evaluation, tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=4, filename="{step}")
    fit(saved, evaluation(), max_steps=4, enable_checkpointing=True)

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            self.seen = dict(trainer.callback_metrics)

    look = Look()
    callback = evaluation()
    fit(callback, look, max_steps=6, ckpt_path=tmp_path / "saved" / "step=4.ckpt")
    assert look.seen["eval/return"] == pytest.approx(callback.history[1].summary.return_mean)
    assert steps(callback) == [0, 4, 6]


def test_an_evaluation_missed_by_a_kill_is_made_up_for(fit, evaluation, tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    fit(saved, evaluation(every_n_steps=4), max_steps=8, enable_checkpointing=True)
    file = tmp_path / "evaluations.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))  # 0 and 4
    callback = evaluation(every_n_steps=4)
    fit(callback, max_steps=10, ckpt_path=tmp_path / "saved" / "step=8.ckpt")
    assert steps(callback) == [0, 4, 8, 10]


def test_a_fresh_training_starts_the_file_over(fit, evaluation, tmp_path):
    fit(evaluation(), max_steps=3)
    callback = evaluation()
    fit(callback, max_steps=5)
    assert [row.step for row in read_history(tmp_path / "evaluations.jsonl")] == steps(callback) == [0, 5]


class Halved(pl.Callback):
    """Keeps weights that are half of the trained ones."""

    def __init__(self):
        self.entered = 0

    def on_train_start(self, trainer, pl_module):
        self.policy = pl_module.mine_policy

    @property
    def has_averaged_weights(self):
        return True

    @contextmanager
    def averaged_weights_in_place(self):
        self.entered += 1
        trained = [parameter.detach().clone() for parameter in self.policy.parameters()]
        with torch.no_grad():
            for parameter in self.policy.parameters():
                parameter.mul_(0.5)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.policy.parameters(), trained, strict=True):
                    parameter.copy_(value)


def test_averaged_weights_are_evaluated(fit, evaluation, walker, corridor):
    halved, callback = Halved(), evaluation()
    fit(halved, callback)
    assert halved.entered == 2
    assert [row.weights for row in callback.history] == ["averaged", "averaged"]
    trained = summarize(rollout(walker, corridor, episodes=5, seed=1_000_000))
    assert callback.history[-1].summary != trained
    with halved.averaged_weights_in_place():
        assert callback.history[-1].summary == summarize(rollout(walker, corridor, episodes=5, seed=1_000_000))


def test_a_failing_environment_stops_the_training_with_its_name(fit, evaluation):
    def broken():
        raise OSError("no display")

    with pytest.raises(MscoreError, match="no display"):
        fit(evaluation(CallableEnvironment(broken)))


def test_a_history_that_was_tampered_with(tmp_path):
    (tmp_path / "evaluations.jsonl").write_text('{"step": 3}\n')
    with pytest.raises(MscoreError, match=r"evaluations.jsonl, line 1: not an evaluation"):
        read_history(tmp_path / "evaluations.jsonl")
    assert read_history(tmp_path / "none.jsonl") == []


def test_importing_the_package_is_cheap():
    code = "import sys, mscore.evaluation; print([name for name in ('torch', 'av', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

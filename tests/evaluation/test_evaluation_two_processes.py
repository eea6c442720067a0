"""Evaluation in a training of two processes: one plays, both know the result, and neither waits for ever."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
import lightning.pytorch as pl
import torch
from conftest import Corridor, CorridorEnvironment, TinyPolicy
from test_evaluation_callback import Imitation, loader
from mscore.config import Evaluation
from mscore.evaluation import EvaluationCallback

class Breaking(CorridorEnvironment):
    def make(self, render_mode=None):
        if len(Corridor.made) >= 2:  # after the evaluation at the start
            raise OSError("no display")
        return super().make(render_mode)

class Tell(pl.Callback):
    def on_train_end(self, trainer, module):
        seen = {key: float(value) for key, value in trainer.callback_metrics.items()}
        told = {"steps": [row.step for row in evaluation.history], "metrics": seen, "envs": len(Corridor.made)}
        with open(f"{sys.argv[1]}/rank{trainer.global_rank}.json", "w") as file:
            json.dump(told, file)

torch.manual_seed(0)
torch.set_num_threads(1)
for environment in (CorridorEnvironment(), Breaking()):
    policy = TinyPolicy(Corridor.observation_space, Corridor.action_space)
    evaluation = EvaluationCallback(environment, Evaluation(episodes=4, every_n_steps=2, num_envs=2), sys.argv[1])
    trainer = pl.Trainer(max_steps=4, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False,
        callbacks=[evaluation, Tell()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False)
    trainer.fit(Imitation(policy), loader())
    print("trained")
"""


def test_rank_zero_plays_and_both_know_also_of_a_failure(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.count("trained") == 1, done.stderr
    zero, one = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert zero["steps"] == one["steps"] == [0, 2, 4]
    assert zero["metrics"] == one["metrics"] != {}
    assert (zero["envs"], one["envs"]) == (6, 0)
    # The second training ends with the failure instead of waiting.
    assert done.returncode != 0
    assert "no display" in done.stderr
    assert len((tmp_path / "evaluations.jsonl").read_text().splitlines()) == 1

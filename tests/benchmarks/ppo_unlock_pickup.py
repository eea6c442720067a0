"""The recipe ``unlock-pickup-ppo`` by CPU time, with the ablation and the comparison, for ``bench_ppo.py``.

PPO's own CPU time counts, without the evaluations; these are played every so many CPU-seconds. The recipes are
run as they are, except that they train until that time is over.
"""

import contextlib
import io
import statistics
import tempfile
import time
from unittest.mock import patch

import lightning
from mscore_plugin_ppo.adapter import PPO
from mscore_plugin_ppo.monitors import Watching

import mscore
from mscore.config import load_config
from mscore.evaluation import rollout, summarize

BUDGET, EVERY, EPISODES = 90.0, 15.0, 200
ENDLESS = 10_000_000
KL, WITHOUT, SCRATCH = "with KL", "without KL", "from scratch"
VARIANTS = {
    KL: ("unlock-pickup-ppo", ["stages[0].evaluation=null", "stages[1].evaluation=null"]),
    WITHOUT: (
        "unlock-pickup-ppo",
        ["stages[0].evaluation=null", "stages[1].evaluation=null", "stages[1].objectives.reference-kl.weight=0"],
    ),
    SCRATCH: ("unlock-pickup-scratch", ["evaluation=null"]),
}


class Evaluations(Watching):
    """Plays episodes at the start and every so many CPU-seconds, and ends training when they are spent.

    Args:
        environment: where to play.
        budget: CPU-seconds of training.
        episodes: of an evaluation.

    Attributes:
        found: success rates.
        steps: steps in environments when each was played.
    """

    def __init__(self, environment, budget, episodes):
        self.environment, self.budget, self.episodes = environment, budget, episodes
        self.found, self.steps = [], []

    def on_start(self, trainer):
        self.began = time.process_time()
        self._play(trainer)

    def on_iteration(self, trainer, metrics):
        if time.process_time() - self.began >= EVERY * len(self.found):
            self._play(trainer)
        trainer.should_stop = time.process_time() - self.began >= self.budget

    def _play(self, trainer):
        began = time.process_time()
        played = rollout(trainer.policy, self.environment, episodes=self.episodes, seed=1_000_000)
        self.found.append(summarize(played).success_rate)
        self.steps.append(trainer.env_steps)
        self.began += time.process_time() - began


def train(variant, seed, budget, episodes):
    """Run a variant; its evaluations, and the CPU-seconds that cloning took (0 without)."""
    recipe, overrides = VARIANTS[variant]
    limit = "trainer.max_steps" if variant == SCRATCH else "stages[1].trainer.max_steps"
    cloning, evaluations = [0.0], []
    fit = lightning.Trainer.fit

    def timed(*arguments, **keywords):
        began = time.process_time()
        fit(*arguments, **keywords)
        cloning[0] += time.process_time() - began

    def monitors(self, run):
        evaluations.append(Evaluations(run.environment, budget, episodes))
        return evaluations

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(lightning.Trainer, "fit", timed))
        stack.enter_context(patch.object(PPO, "_monitors", monitors))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        mscore.run(load_config(recipe, [*overrides, f"{limit}={ENDLESS}", f"seed={seed}"]))
    return evaluations[0], cloning[0]


def measure(seeds, budget, episodes, variants=None):
    """Print success over CPU time: each seed's, and the mean."""
    print(f"BabyAI-UnlockPickup, success on {episodes} levels after 0, {EVERY:g}, {2 * EVERY:g}, … CPU-s of PPO")
    for variant in variants or VARIANTS:
        rows = []
        for seed in seeds:
            evaluations, cloning = train(variant, seed, budget, episodes)
            rows.append(evaluations.found)
            shown = " ".join(f"{success:.3f}" for success in evaluations.found)
            cloned = f"{cloning:.1f} CPU-s of cloning, " if cloning else ""
            print(f"  {variant}, seed {seed}: {shown} ({cloned}{evaluations.steps[-1]} steps of PPO)", flush=True)
        means = [statistics.mean(column) for column in zip(*rows, strict=True)]
        print(f"  {variant}, mean: {' '.join(f'{mean:.3f}' for mean in means)}", flush=True)
        if variant == KL:
            print(
                f"    at the end {means[-1]:.3f} (at least 0.95), the worst seed {min(row[-1] for row in rows):.3f} "
                f"(at least 0.90), on the way {min(means) - means[0]:+.3f} beside the clone (at least -0.10)",
                flush=True,
            )

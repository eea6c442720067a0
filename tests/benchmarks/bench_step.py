"""Cost of mscore's training step beside a bare torch loop, in CPU time.

Run ``python tests/benchmarks/bench_step.py``. Three sizes of step; the full stack has 8 metrics, EMA,
scheduler, speed monitor, memory and CSV logger, without a bar; the average is updated after every step
(the default) or every eighth (the tutorial's setting). Ratios are medians of interleaved runs in one
process, one thread.
"""

import argparse
import statistics
import tempfile
import time
import warnings

import lightning.pytorch as pl
import torch
from gymnasium import spaces
from mscore_plugin_ema import EMA
from mscore_plugin_speed_monitor import SpeedMonitorCallback
from torch import nn

from mscore import MineLightning, MinePolicy, ObjectiveCallback
from mscore.offline.csv_logger import CSVLogger

SIZES = {"tiny": (64, 32, 1), "about 8 ms": (384, 352, 3), "about 60 ms": (768, 512, 4)}
"""Width, batch size and depth: 13 thousand, half a million and 2.4 million parameters."""
WARM_UP = 30


class Stack(nn.Module):
    """An MLP: 64 inputs, the given number of hidden layers, 8 outputs."""

    def __init__(self, width, depth):
        super().__init__()
        layers = [nn.Linear(64, width), nn.Tanh()]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.Tanh()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 8))

    def forward(self, x):
        return self.layers(x)


class StackPolicy(MinePolicy):
    """The same MLP as a policy with a state to carry."""

    def __init__(self, width, depth):
        super().__init__(8, spaces.Discrete(8))
        self.pi_head = self.value_head = nn.Identity()
        self.net = Stack(width, depth)

    def initial_state(self, batch_size=None):
        return {"sum": torch.zeros(batch_size, 8)}

    def forward(self, input, state_in=None):
        out = self.net(input["image"])
        return {"out": out}, {"sum": out[:, -1]}


class EightMetrics(ObjectiveCallback):
    """Squared error and seven further metrics."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        loss = (latents["out"] - batch["target"]).square().mean()
        shown = loss.detach()
        return {"loss": loss, **{f"metric{i}": shown for i in range(7)}}


def batches(rows, steps, windows=False):
    """In-memory batches of ``rows`` steps; as windows, with what makes them continuous from one to the next."""
    generator = torch.Generator().manual_seed(0)
    names = [f"episode-{row}" for row in range(rows)]
    x = torch.randn(rows, 1, 64, generator=generator)
    y = torch.randn(rows, 1, 8, generator=generator)
    first = torch.zeros(rows, 1, dtype=torch.bool)
    if not windows:
        return [{"image": x, "target": y} for _ in range(steps)]
    return [
        {"image": x, "target": y, "timestamp": torch.full((rows, 1), t), "episode": names, "first": first}
        for t in range(steps)
    ]


class Loader:
    """Gives the batches as the bare loop has them (Lightning would take a list for several loaders)."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Clock(pl.Callback):
    """CPU time per step between the end of the warm-up and the end of training."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == WARM_UP:
            self.start = time.process_time()

    def on_train_end(self, trainer, pl_module):
        self.seconds = (time.process_time() - self.start) / (trainer.global_step - WARM_UP - 1)


def bare(width, rows, depth, steps):
    """Forward, backward and fused AdamW; nothing else."""
    model = Stack(width, depth)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for i, batch in enumerate(batches(rows, steps)):
        if i == WARM_UP + 1:
            start = time.process_time()
        optimizer.zero_grad()
        loss = (model(batch["image"]) - batch["target"]).square().mean()
        loss.backward()
        optimizer.step()
    return (time.process_time() - start) / (steps - WARM_UP - 1)


def fit(module, batches, callbacks=(), logger=False):
    """A Lightning fit of one step per batch."""
    clock = Clock()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[*callbacks, clock],
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, Loader(batches))
    return clock.seconds


class Empty(pl.LightningModule):
    """What Lightning itself costs: the same step, nothing logged."""

    def __init__(self, width, depth):
        super().__init__()
        self.model = Stack(width, depth)

    def training_step(self, batch, batch_idx):
        return (self.model(batch["image"]) - batch["target"]).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


def full_stack(width, rows, depth, steps, ema_every=1):
    """mscore with everything that a run usually has."""
    module = MineLightning(StackPolicy(width, depth), [EightMetrics()], learning_rate=1e-4)
    callbacks = [EMA(0.999, every_n_steps=ema_every), SpeedMonitorCallback()]
    with tempfile.TemporaryDirectory() as folder:
        return fit(module, batches(rows, steps, windows=True), callbacks, CSVLogger(folder))


def main():
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="steps per run; by size when 0")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name, (width, rows, depth) in SIZES.items():
        steps = arguments.steps or {64: 1500, 384: 300, 768: 100}[width]
        times = {"bare": [], "Lightning": [], "mscore": [], "mscore, EMA every 8 steps": []}
        for _ in range(arguments.rounds):
            times["bare"].append(bare(width, rows, depth, steps))
            times["Lightning"].append(fit(Empty(width, depth), batches(rows, steps)))
            times["mscore"].append(full_stack(width, rows, depth, steps))
            times["mscore, EMA every 8 steps"].append(full_stack(width, rows, depth, steps, ema_every=8))
        base = statistics.median(times["bare"])
        ratios = "; ".join(
            f"{key} {statistics.median(value) / base:.2f}" for key, value in times.items() if key != "bare"
        )
        print(f"{name}: bare torch loop {base * 1e6:.0f} us; ratio to it: {ratios}", flush=True)


if __name__ == "__main__":
    main()

"""What averaging costs beside one flat ``lerp_`` over the same floats, for us and for others.

Run ``python tests/benchmarks/bench_ema.py [--millions 100] [--rounds 15]``. CPU time, one thread, median of
interleaved rounds. The flat ``lerp_`` reads the average and the weights and writes the average: nothing
that averages can move fewer bytes. Peers that are not installed are left out.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from mscore_plugin_ema import EMAOptimizer, ema_update
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY = 0.999
CPU = torch.device("cpu")


def model_of(millions: float) -> nn.Module:
    """Linear layers of a million weights each."""
    return nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(max(1, round(millions)))))


def contestants(model: nn.Module) -> dict[str, Callable[[], object]]:
    """Name to a function that does one update of the average of ``model``."""
    weights = list(model.parameters())
    flat = torch.cat([p.detach().flatten() for p in weights])
    average = flat.clone()
    optimizer = EMAOptimizer(torch.optim.SGD(weights, lr=0.0), CPU, decay=DECAY)
    optimizer.start()
    shadow = tuple(p.detach().clone() for p in weights)
    lightning = EMAWeightAveraging(decay=DECAY)
    lightning_average = AveragedModel(model, use_buffers=True, **lightning._kwargs)
    lightning_average.update_parameters(model)
    multi = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    multi.update_parameters(model)
    runs: dict[str, Callable[[], object]] = {
        "flat lerp_": lambda: average.lerp_(flat, 1 - DECAY),
        "mscore EMAOptimizer.update": optimizer.update,
        "mscore ema_update": lambda: ema_update(shadow, tuple(weights), DECAY),
        "Lightning EMAWeightAveraging": lambda: lightning_average.update_parameters(model),
        "torch AveragedModel, multi_avg_fn": lambda: multi.update_parameters(model),
    }
    try:
        from timm.utils import ModelEmaV3
    except ImportError:
        pass
    else:
        timm = ModelEmaV3(model, decay=DECAY)
        runs["timm ModelEmaV3"] = lambda: timm.update(model)
    try:
        from ema_pytorch import EMA
    except ImportError:
        pass
    else:
        for foreach in (False, True):
            other = EMA(model, beta=DECAY, update_after_step=0, update_every=1, use_foreach=foreach)
            other.update()
            runs[f"ema-pytorch, foreach={foreach}"] = other.update
    return runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=100.0, help="parameters, in millions")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = model_of(options.millions)
    runs = contestants(model)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(options.rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if index:  # the first round warms up
                times[name].append(time.process_time() - start)
    limit = statistics.median(times["flat lerp_"])
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters, median of {options.rounds} rounds")
    for name, values in times.items():
        print(f"{name:36} {statistics.median(values) * 1e3:8.2f} ms   x{statistics.median(values) / limit:.2f}")
    swapped = EMAOptimizer(torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.0), CPU)
    swapped.start()
    start = time.process_time()
    swapped.switch_main_parameter_weights()
    swapped.switch_main_parameter_weights()
    print(f"{'mscore swap, in and out':36} {(time.process_time() - start) * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()

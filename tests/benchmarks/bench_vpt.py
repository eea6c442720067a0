"""VPT's training step, acting step and recurrent core beside MineStudio's, with the same weights and inputs.

Run ``python tests/benchmarks/bench_vpt.py [--rounds 15] [--quick] [--compile]``. MineStudio is installed where it is
not there. Each side runs in a process of its own with one thread; they take turns, and medians are compared.
``--quick`` takes five rounds, about a minute.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from interleaved import Contestant, race
from minestudio_peer import peer_python
from mscore_plugin_vpt import VPTPolicy
from vpt_contestant import BLOCKS, ENVIRONMENTS, MEMORY, WIDTH, WINDOW

LIMITS = {"train": 0.82, "core": 0.58, "act": 0.72, "act8": 0.48}
TITLES = {
    "train": "training step (forward, loss, backward), 128 px, B2 T32",
    "core": "recurrent core, one acting step, M128",
    "act": "acting step, B1",
    "act8": "8 environments in one batch, per environment, beside 8 calls of ours",
}


def policy_kwargs(memory: int) -> dict[str, object]:
    """Width 1, four blocks, whose memory is as long as a window."""
    return {
        "attention_heads": 8,
        "attention_mask_style": "clipped_causal",
        "attention_memory_size": 2 * memory,
        "hidsize": WIDTH,
        "img_shape": [128, 128, 3],
        "impala_chans": [16, 32, 32],
        "impala_kwargs": {"post_pool_groups": 1},
        "impala_width": 1,
        "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1},
        "n_recurrence_layers": BLOCKS,
        "pointwise_ratio": 4,
        "recurrence_type": "transformer",
        "timesteps": memory,
        "use_pre_lstm_ln": False,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--compile", action="store_true", help="compile our network for acting")
    options = parser.parse_args()
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        for name, memory in (("training", WINDOW), ("acting", MEMORY)):
            VPTPolicy(policy_kwargs(memory), temperature=2.0).save_pretrained(Path(folder) / name)
        script = here / "vpt_contestant.py"
        more = ["--compile"] if options.compile else []
        sides = {
            "ours": Contestant([sys.executable, script, "ours", folder, *more], "our side"),
            "peer": Contestant([peer_python(), script, "peer", folder], "MineStudio's side"),
        }
        for side in sides.values():
            side.wait_until_ready()
        results = race(sides, dict.fromkeys(LIMITS, 5 if options.quick else options.rounds))
        for side in sides.values():
            side.close()
    print(f"{'ours / MineStudio':70} {'CPU':>14}   {'':5} {'wall':>14}   {'':5} at most")
    for case, limit in LIMITS.items():
        mine, theirs = results[case]["ours"], results[case]["peer"]
        cells = []
        for kind in ("cpu", "wall"):
            left, right = getattr(mine, kind), getattr(theirs, kind)
            if case == "act8":
                left, right = left / ENVIRONMENTS, getattr(results["act"]["ours"], kind)
            cells.append(f"{1e3 * left:6.2f}/{1e3 * right:6.2f} ms {left / right:5.2f}")
        print(f"{TITLES[case]:70} {'  '.join(cells)} {limit:7.2f}")


if __name__ == "__main__":
    main()

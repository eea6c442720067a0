"""ROCKET-1's training step beside MineStudio's, and with a frozen backbone from the second epoch on.

Run ``python tests/benchmarks/bench_rocket.py [--rounds 15]``. MineStudio is installed where it is not there. Each
side runs in a process of its own with one thread, with the same weights and inputs; they take turns, and medians
are compared.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from interleaved import Contestant, race
from minestudio_peer import peer_python
from mscore_plugin_rocket import RocketPolicy
from rocket_contestant import PIXELS, ROWS, WINDOW

LIMITS = {"train": 0.66, "frozen": 0.30}
TITLES = {
    "train": f"training step, efficientnet_b0, {PIXELS} px, B{ROWS} T{WINDOW}",
    "frozen": "the same with a frozen backbone, second epoch on",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    script = Path(__file__).with_name("rocket_contestant.py")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        policy = RocketPolicy("efficientnet_b0.ra_in1k", hiddim=256, timesteps=WINDOW, mem_len=WINDOW, pretrained=False)
        policy.save_pretrained(Path(folder) / "policy")
        sides = {
            "ours": Contestant([sys.executable, script, "ours", folder], "our side"),
            "peer": Contestant([peer_python(), script, "peer", folder], "MineStudio's side"),
        }
        for side in sides.values():
            side.wait_until_ready()
        results = race(sides, dict.fromkeys(LIMITS, options.rounds))
        for side in sides.values():
            side.close()
    print(f"{'ours / MineStudio':56} {'CPU':>18}       {'wall':>18}       at most")
    for case, limit in LIMITS.items():
        cells = []
        for kind in ("cpu", "wall"):
            left, right = (getattr(results[case][side], kind) for side in ("ours", "peer"))
            cells.append(f"{1e3 * left:6.1f}/{1e3 * right:6.1f} ms {left / right:5.2f}")
        print(f"{TITLES[case]:56} {'  '.join(cells)} {limit:9.2f}")


if __name__ == "__main__":
    main()

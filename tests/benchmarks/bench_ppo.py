"""PPO: speed beside Stable-Baselines3, what is learned in how many steps and CPU-seconds, GAE, and the start.

``python tests/benchmarks/bench_ppo.py`` prints what takes minutes (``speed``, ``gae``, ``start``);
``bench_ppo.py all`` also what takes a good half hour (``learn``, ``unlock-pickup``). Stable-Baselines3 and
TorchRL are installed into an environment of their own where they are not there. Everything has one thread, and
CPU time counts, so that what else the machine does matters little.

Parts can be run alone, and smaller::

    bench_ppo.py speed --cases default --rounds 5
    bench_ppo.py learn --cases doorkey --seeds 7 8
    bench_ppo.py unlock-pickup --seeds 3 --seconds 30 --episodes 50 --variants "with KL"
"""

import argparse
import logging
import warnings

import ppo_curves
import ppo_gae
import ppo_speed
import ppo_start
import ppo_unlock_pickup
import torch

QUICK = ["speed", "gae", "start"]
LONG = ["learn", "unlock-pickup"]
GROUPS = {"quick": QUICK, "all": [*QUICK, *LONG]}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=[*GROUPS, *QUICK, *LONG], default="quick")
    parser.add_argument("--cases", nargs="+", help=f"of speed: {[*ppo_speed.CASES]}; of learn: {[*ppo_curves.CASES]}")
    parser.add_argument("--rounds", type=int, default=3, help="of speed and start; medians count")
    parser.add_argument("--seeds", type=int, nargs="+", help="of learn and unlock-pickup; the first ones by default")
    parser.add_argument("--seconds", type=float, default=ppo_unlock_pickup.BUDGET, help="CPU time of unlock-pickup")
    parser.add_argument("--episodes", type=int, default=ppo_unlock_pickup.EPISODES, help="of its evaluations")
    parser.add_argument("--variants", nargs="+", choices=[*ppo_unlock_pickup.VARIANTS], help="of unlock-pickup")
    return parser.parse_args()


def main():
    """Print what was asked for."""
    given = arguments()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    parts = GROUPS.get(given.part, [given.part])
    if "speed" in parts:
        ppo_speed.compare(given.rounds, given.cases)
    if "gae" in parts:
        ppo_gae.compare()
    if "start" in parts:
        ppo_start.measure(given.rounds)
    if "learn" in parts:
        ppo_curves.measure(given.cases, given.seeds)
    if "unlock-pickup" in parts:
        ppo_unlock_pickup.measure(given.seeds or range(3), given.seconds, given.episodes, given.variants)


if __name__ == "__main__":
    main()

"""One side of ``bench_rocket.py``: ``rocket_contestant.py ours|peer FOLDER``, where FOLDER holds the weights."""

import sys
from pathlib import Path

import torch
from interleaved import serve

ROWS, WINDOW, PIXELS = 2, 8, 128


def ours(folder: Path):
    """Our policy to train, the one with a frozen backbone, and the loss."""
    from mscore_plugin_bc import BehaviorCloneCallback
    from mscore_plugin_rocket import RocketPolicy

    frozen = RocketPolicy.from_pretrained(
        folder / "policy", freeze_backbone=True, feature_cache=str(folder / "features")
    )
    return RocketPolicy.from_pretrained(folder / "policy"), frozen, BehaviorCloneCallback()


def peer(folder: Path):
    """The same of MineStudio, which freezes a backbone by its parameters and runs it in every epoch."""
    from minestudio_peer import prepare

    prepare()
    from minestudio.models.rocket_one.body import RocketPolicy
    from minestudio.offline.mine_callbacks import BehaviorCloneCallback

    training, frozen = (RocketPolicy.from_pretrained(str(folder / "policy")) for _ in range(2))
    frozen.backbone.requires_grad_(False)
    return training, frozen, BehaviorCloneCallback()


def cases(training, frozen, objective):
    """Name of a case to what it runs, and how often at a time."""
    torch.manual_seed(0)
    shape = (ROWS, WINDOW)
    batch = {
        "image": torch.randint(0, 256, (*shape, PIXELS, PIXELS, 3), dtype=torch.uint8),
        "segmentation": {
            "obj_mask": torch.randint(0, 2, (*shape, PIXELS, PIXELS), dtype=torch.uint8),
            "obj_id": torch.randint(-1, 7, shape),
        },
        "agent_action": {"buttons": torch.randint(0, 8641, (*shape, 1)), "camera": torch.randint(0, 121, (*shape, 1))},
        "mask": torch.ones(shape),
        "episode": [f"episode-{row}" for row in range(ROWS)],
        "timestamp": torch.arange(WINDOW).repeat(ROWS, 1),
    }

    def train(policy):
        policy.train()
        for parameter in policy.parameters():
            parameter.grad = None
        latents, _ = policy(batch, policy.initial_state(ROWS))
        objective(batch, 0, "train", latents, policy)["loss"].backward()

    return {"train": (lambda: train(training), 1), "frozen": (lambda: train(frozen), 2)}


def main() -> None:
    """Serve the cases."""
    torch.set_num_threads(1)
    side, folder = sys.argv[1:]
    serve(cases(*(peer if side == "peer" else ours)(Path(folder))))


if __name__ == "__main__":
    main()

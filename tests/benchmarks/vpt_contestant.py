"""One side of ``bench_vpt.py``: ``vpt_contestant.py ours|peer FOLDER``, where FOLDER holds the policies' weights."""

import sys
from pathlib import Path

import torch
from interleaved import serve

BATCH, WINDOW, ENVIRONMENTS, WIDTH, BLOCKS, MEMORY = 2, 32, 8, 256, 4, 128


def ours(folder: Path, compiled: bool):
    """Our policy for training, the one for acting, the loss, and a recurrent core."""
    from mscore_plugin_bc import BehaviorCloneCallback
    from mscore_plugin_vpt import ResidualRecurrentBlocks, VPTPolicy

    acting = VPTPolicy.from_pretrained(folder / "acting")
    if compiled:
        acting.net = torch.compile(acting.net)
    return VPTPolicy.from_pretrained(folder / "training"), acting, BehaviorCloneCallback(), ResidualRecurrentBlocks


def peer(folder: Path):
    """The same of MineStudio."""
    from minestudio_peer import prepare

    prepare()
    from minestudio.models.vpt import VPTPolicy
    from minestudio.offline.mine_callbacks import BehaviorCloneCallback
    from minestudio.utils.vpt_lib.util import ResidualRecurrentBlocks

    training, acting = (VPTPolicy.from_pretrained(str(folder / name)) for name in ("training", "acting"))
    return training, acting, BehaviorCloneCallback(), ResidualRecurrentBlocks


def cases(training, acting, objective, blocks):
    """Name of a case to what it runs, and how often at a time."""
    torch.manual_seed(0)
    training.train()
    batch = {
        "image": torch.randint(0, 256, (BATCH, WINDOW, 128, 128, 3), dtype=torch.uint8),
        "agent_action": {
            "buttons": torch.randint(0, 8641, (BATCH, WINDOW, 1)),
            "camera": torch.randint(0, 121, (BATCH, WINDOW, 1)),
        },
        "mask": torch.ones(BATCH, WINDOW),
    }

    def train():
        for parameter in training.parameters():
            parameter.grad = None
        latents, _ = training(batch, training.initial_state(BATCH))
        objective(batch, 0, "train", latents, training)["loss"].backward()

    frames = {"image": torch.randint(0, 256, (ENVIRONMENTS, 1, 128, 128, 3), dtype=torch.uint8)}
    frame = {"image": frames["image"][:1]}
    memory, memories = acting.initial_state(1), acting.initial_state(ENVIRONMENTS)
    for _ in range(3):
        _, memory = acting.get_action(frame, memory)
        _, memories = acting.get_action(frames, memories)

    core = blocks(
        hidsize=WIDTH,
        timesteps=MEMORY,
        attention_memory_size=2 * MEMORY,
        n_block=BLOCKS,
        attention_heads=8,
        recurrence_type="transformer",
    ).eval()
    x, first, before = torch.randn(1, 1, WIDTH), torch.zeros(1, 1, dtype=torch.bool), core.initial_state(1)

    def core_step():
        with torch.inference_mode():
            core(x, first, before)

    return {
        "train": (train, 1),
        "core": (core_step, 100),
        "act": (lambda: acting.get_action(frame, memory), 30),
        "act8": (lambda: acting.get_action(frames, memories), 8),
    }


def main() -> None:
    """Serve the cases."""
    torch.set_num_threads(1)
    side, folder, *options = sys.argv[1:]
    parts = peer(Path(folder)) if side == "peer" else ours(Path(folder), "--compile" in options)
    serve(cases(*parts))


if __name__ == "__main__":
    main()

"""Whether MineStudio reads the policies that mscore writes, and mscore those of MineStudio, and both do the same.

Run ``python tests/benchmarks/peer_reads_policies.py``; MineStudio is installed where it is not there. Small runs of the
three recipes are exported with ``mscore export --ema``, further policies (other backbones, sizes and options) are
written by ``save_pretrained``. MineStudio's ``from_pretrained`` builds each, reads two windows, and writes the policy
again, as a directory and as a Lightning checkpoint; ours reads both of these, and the windows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from minestudio_peer import peer_python, prepare

ROOT = Path(__file__).parents[2]
DATASET = ROOT / "plugins/mscore-plugin-minestudio/tests/golden/minestudio/dataset"
TOLERANCE = 2e-5

FOUNDATION = {
    **{"attention_heads": 4, "attention_mask_style": "clipped_causal", "attention_memory_size": 16, "hidsize": 64},
    **{"img_shape": [64, 64, 3], "impala_chans": [16, 32, 32], "impala_kwargs": {"post_pool_groups": 1}},
    **{"impala_width": 1, "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1}},
    **{"n_recurrence_layers": 2, "only_img_input": True, "pointwise_ratio": 4, "pointwise_use_activation": False},
    **{"recurrence_is_residual": True, "recurrence_type": "transformer", "timesteps": 8, "use_pointwise_layer": True},
    **{"use_pre_lstm_ln": False},
}
VPTS = {
    "foundation": {},
    "1x": {"hidsize": 1024, "impala_width": 4, "attention_heads": 8, "img_shape": [128, 128, 3]},
    "2x heads and width": {"hidsize": 256, "impala_width": 8, "attention_heads": 16, "n_recurrence_layers": 4},
    "3x heads and width": {"hidsize": 192, "impala_width": 12, "attention_heads": 24},
    "other channels": {"impala_chans": [8, 16, 16, 24], "impala_width": 1.5, "img_shape": [60, 76, 3]},
    "batch norm": {"init_norm_kwargs": {"batch_norm": True}, "first_conv_norm": True},
    "no norm": {"init_norm_kwargs": {}, "impala_kwargs": {}},
    "two groups": {"init_norm_kwargs": {"group_norm_groups": 2}, "impala_kwargs": {"post_pool_groups": 4}},
    "layer norm first": {"use_pre_lstm_ln": True, "scale_input_img": False},
    "no mask": {"attention_mask_style": "none"},
    "no perceptron": {"use_pointwise_layer": False},
    "not residual": {"recurrence_is_residual": False, "pointwise_use_activation": True, "pointwise_ratio": 2},
}
ROCKET = {"hiddim": 64, "num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8}
GROOT = {
    "hiddim": 64,
    "decoder_kwargs": {"num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8},
    "video_encoder_kwargs": {"num_spatial_layers": 1, "num_temporal_layers": 3, "num_heads": 4, "dropout": 0.0},
    "image_encoder_kwargs": {"num_layers": 1, "num_heads": 2},
}
BACKBONES = {
    **{
        "resnet18.a1_in1k": 64,
        "timm/efficientnet_b0.ra_in1k": 96,
        "convnext_atto.d2_in1k": 64,
        "test_vit.r160_in1k": 160,
    },
    **{"vit_small_patch16_224.dino": 224, "vit_base_patch32_clip_224.openai": 224, "vit_tiny_patch16_224": 224},
    **{"vit_small_patch14_dinov2.lvd142m": 518, "mobilenetv3_small_100": 64, "regnetx_002": 64},
}


def cases():
    """Name to class, constructor arguments, height and width of the frames."""
    found = {}
    for name, more in VPTS.items():
        network = {**FOUNDATION, **more}
        arguments = {"policy_kwargs": network, "temperature": 2.0}
        found[f"VPT, {name}"] = ("VPTPolicy", arguments, network["img_shape"][:2])
    for name, pixels in BACKBONES.items():
        found[f"ROCKET-1, {name}"] = ("RocketPolicy", {"backbone": name, **ROCKET}, [pixels, pixels])
        found[f"GROOT, {name}"] = ("GrootPolicy", {"backbone": name, **GROOT}, [pixels, pixels])
    more = {"hiddim": 96, "num_heads": 6, "num_layers": 3, "timesteps": 2, "mem_len": 5, "nucleus_prob": None}
    found["ROCKET-1, other sizes"] = ("RocketPolicy", {"backbone": "test_vit.r160_in1k", **more}, [160, 160])
    trained = {"backbone": "test_vit.r160_in1k", **GROOT, "freeze_backbone": False}
    found["GROOT, a backbone that is trained"] = ("GrootPolicy", trained, [160, 160])
    return found


def window(height, width, part):
    """Two rows of three frames, the same in both processes."""
    random = np.random.default_rng(part)
    return {
        "image": torch.from_numpy(random.integers(0, 256, (2, 3, height, width, 3), dtype=np.uint8)),
        "segmentation": {
            "obj_mask": torch.from_numpy(random.integers(0, 2, (2, 3, height, width), dtype=np.uint8)),
            "obj_id": torch.from_numpy(random.integers(-1, 7, (2, 3))),
        },
    }


@torch.no_grad()
def outputs(policy, size):
    """What a policy makes of two windows, by name."""
    found, state = {}, policy.initial_state(2)
    for part in range(2):
        latents, state = policy(window(*size, part), state)
        for name in ("buttons", "camera"):
            found[f"{part}/{name}"] = latents["pi_logits"][name].numpy()
        found[f"{part}/vpred"] = latents["vpred"].numpy()
        for name in ("posterior_dist", "prior_dist"):
            for key, value in latents.get(name, {}).items():
                found[f"{part}/{name}/{key}"] = value.numpy()
    found |= {f"state/{index}": one.numpy() for index, one in enumerate(state)}
    return found


def as_peer(folder):
    """In the peer's environment: read every directory, and write outputs and the policy again."""
    prepare()
    from minestudio.models import GrootPolicy, RocketPolicy, VPTPolicy

    classes = {one.__name__: one for one in (GrootPolicy, RocketPolicy, VPTPolicy)}
    for place in sorted(path.parent for path in folder.glob("*/case.json")):
        case = json.loads((place / "case.json").read_text())
        policy = classes[case["class"]].from_pretrained(str(place / "ours"))
        np.savez(place / "peer.npz", **outputs(policy, case["size"]))
        policy.save_pretrained(str(place / "peer"))
        arguments = json.loads((place / "peer" / "config.json").read_text())
        state = {f"mine_policy.{name}": tensor for name, tensor in policy.state_dict().items()}
        torch.save({"state_dict": state, "hyper_parameters": {"model": arguments}}, place / "peer.ckpt")


def export_runs(folder):
    """Short runs of the recipes, exported; name to class and size."""
    image = ["data.frame_width=64", "data.frame_height=64", "data.win_len=4", "data.batch_size=2"]
    short = [
        *("data.num_workers=0", "data.prefetch_factor=null", f"data.dataset_dirs=[{DATASET}]", *image),
        *("trainer.devices=1", "trainer.strategy=auto", "trainer.accelerator=cpu", "trainer.max_steps=4"),
        *("callbacks.weights=null", "callbacks.checkpoints.every_n_train_steps=2", "callbacks.ema.every_n_steps=1"),
    ]
    backbone = ["policy.backbone=resnet18.a1_in1k", "policy.pretrained=false", "policy.hiddim=64"]
    recipes = {
        "vpt-finetune": (
            "VPTPolicy",
            [
                *("init_from=null", "callbacks.ema.decay=0.9", "data.event_regex='minecraft.*'"),
                *(f"policy.policy_kwargs.{key}={json.dumps(value)}" for key, value in FOUNDATION.items()),
            ],
        ),
        "rocket-pretrain": ("RocketPolicy", backbone),
        "groot-pretrain": ("GrootPolicy", [*backbone, "policy.decoder_kwargs={timesteps: 4, mem_len: 8}"]),
    }
    for recipe, (kind, own) in recipes.items():
        place = folder / f"exported {recipe}"
        place.mkdir()
        for command in (
            ["run", recipe, *short, *own],
            ["export", f"runs/{recipe}/latest", "--ema", "--to", str(place / "ours")],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "mscore", *command], cwd=folder, capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(f"mscore {' '.join(command)}\n{done.stderr}")
        describe(place, kind, [64, 64])


def describe(place, kind, size):
    """Write down what both sides need to know of a case."""
    (place / "case.json").write_text(json.dumps({"class": kind, "size": size}))


def compare(place, classes):
    """Outputs of ours for what each side wrote beside the peer's; what differs, in words."""
    case = json.loads((place / "case.json").read_text())
    expected, different = np.load(place / "peer.npz"), []
    for source in ("ours", "peer", "peer.ckpt"):
        policy = classes[case["class"]].from_pretrained(place / source)
        found = outputs(policy, case["size"])
        if found.keys() != set(expected.files):
            different.append(f"{source}: other outputs")
            continue
        largest = max(float(np.abs(found[name].astype(float) - expected[name]).max()) for name in found)
        if largest > TOLERANCE:
            different.append(f"{source}: {largest:.1e}")
    return different


def main():
    """Write, let both read, compare."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", default="", help="cases whose name contains this")
    only = arguments.parse_args().only
    from mscore_plugin_groot import GrootPolicy
    from mscore_plugin_rocket import RocketPolicy
    from mscore_plugin_vpt import VPTPolicy

    classes = {one.__name__: one for one in (GrootPolicy, RocketPolicy, VPTPolicy)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not only:
            export_runs(folder)
        for number, (name, (kind, given, size)) in enumerate(cases().items()):
            if only in name:
                torch.manual_seed(number)
                more = {} if kind == "VPTPolicy" else {"pretrained": False}
                place = folder / name.replace("/", "_")
                classes[kind](**given, **more).save_pretrained(place / "ours")
                describe(place, kind, size)
        subprocess.run(
            [peer_python(), __file__, "--peer", folder], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        places = sorted(path.parent for path in folder.glob("*/case.json"))
        results = {place.name: compare(place, classes) for place in places}
    for name, different in results.items():
        print(f"{name}: {'; '.join(different) or 'equal'}")
    if any(results.values()):
        raise SystemExit("MineStudio and mscore differ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        as_peer(Path(sys.argv[2]))
    else:
        main()

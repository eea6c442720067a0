"""Whether MineStudio's own reader reads what ``mscore data convert`` writes, and returns what ours does.

Run ``python tests/benchmarks/peer_reads_ours.py --peer PYTHON``, where PYTHON is of an environment with MineStudio
1.1.6 and what its reader works with: av 13.1.0, lmdb 1.7.3, opencv-python-headless 4.8.0.74, numpy 1.26.4,
albumentations 1.4.0, lightning 2.6.6, ray, requests, gym 0.26.2 and gym3 0.3.3 (``pip install --no-deps
minestudio==1.1.6`` and these). It makes recordings in VPT's form, converts them, lets both read every episode, and
compares every frame, action, id and piece of meta information, and the events.
"""

import argparse
import hashlib
import json
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SIZE = 128


def digest(array):
    """Of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def read_as_peer(dataset, out):
    """In the peer's environment: what its reader returns, as JSON."""
    import torch

    # What a CPU build of torch lacks and the import of torchvision needs.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from minestudio.data import EventDataset
    from minestudio.data.minecraft import callbacks
    from minestudio.data.minecraft.core import KernelManager

    kernels = [
        callbacks.ImageKernelCallback(frame_width=SIZE, frame_height=SIZE),
        callbacks.ActionKernelCallback(),
        callbacks.MetaInfoKernelCallback(),
    ]
    manager = KernelManager(dataset_dirs=[dataset], modal_kernel_callbacks=kernels)
    episodes = {}
    for name, frames in manager.get_episodes_with_length().items():
        read = manager.read(name, start=0, win_len=frames, skip_frame=1)
        episodes[name] = summary(read["image"], read["env_action"], read["agent_action"], read["meta_info"])
    # Its windows of events end before the event, and it leaves out what happens before frame 128.
    items = EventDataset(
        dataset_dirs=[dataset], modal_kernel_callbacks=kernels, win_len=32, skip_frame=1, split="train",
        split_ratio=1.0, event_regex=".*",
    )  # fmt: skip
    read = [items[number] for number in range(len(items))]
    events = sorted((item["episode"], int(item["timestamp"][-1]) + 1, item["text"]) for item in read)
    Path(out).write_text(json.dumps({"episodes": episodes, "events": events}))


def read_as_ours(dataset):
    """The same by our readers."""
    from mscore_plugin_minestudio.frames.reader import ImageReader
    from mscore_plugin_minestudio.modalities.actions import ActionReader, to_agent_action
    from mscore_plugin_minestudio.modalities.events import short_name
    from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader, columns
    from mscore_plugin_minestudio.storage.event_store import EventStore
    from mscore_plugin_minestudio.storage.store import open_catalog

    catalog = open_catalog([dataset], ["image", "action", "meta_info"])
    images = ImageReader(catalog.stores["image"], SIZE, SIZE)
    actions, infos = ActionReader(catalog.stores["action"]), MetaInfoReader(catalog.stores["meta_info"])
    episodes = {}
    for episode in catalog.episodes:
        frames = np.arange(episode.frames)
        pictures = np.empty((episode.frames, SIZE, SIZE, 3), np.uint8)
        images.read_into([(episode.name, frames, pictures)])
        action = actions.read(episode.name, frames)
        rows = columns(infos.read(episode.name, frames), episode.frames)
        episodes[episode.name] = summary(pictures, action, to_agent_action(action), rows)
    store = EventStore(Path(dataset) / "event")
    events = sorted(
        (item.episode, item.time, short_name(name))
        for name in store.names
        for item in store.items(name)
        if item.time >= 128
    )
    return json.loads(json.dumps({"episodes": episodes, "events": events}))


def summary(pictures, env_action, agent_action, meta_info):
    """An episode as JSON can hold it."""
    return {
        "image": [digest(picture) for picture in np.asarray(pictures)],
        "env_action": {key: [str(np.asarray(value).dtype), digest(value)] for key, value in env_action.items()},
        "agent_action": {key: np.asarray(value).tolist() for key, value in agent_action.items()},
        "meta_info": meta_info,
    }


def main():
    """Make, convert, read twice, compare."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--peer", required=True, help="Python of an environment with MineStudio")
    peer = arguments.parse_args().peer
    vpt = runpy.run_path(str(ROOT / "plugins" / "mscore-plugin-minestudio" / "tests" / "vpt_recordings.py"))
    with tempfile.TemporaryDirectory() as folder:
        source, dataset, out = (Path(folder) / name for name in ("source", "dataset", "peer.json"))
        for number, name in enumerate(("P-20220101-095700", "P-20220101-100200", "P-20220101-110000", "solo")):
            vpt["record"](source, name, 190, seed=number)
        subprocess.run([sys.executable, "-m", "mscore", "data", "convert", source, "--to", dataset], check=True)
        subprocess.run([peer, __file__, "--read", dataset, out], check=True, stdout=subprocess.DEVNULL)
        theirs, ours = json.loads(out.read_text()), read_as_ours(dataset)
    assert theirs["episodes"].keys() == ours["episodes"].keys()
    for name, episode in ours["episodes"].items():
        different = [key for key in episode if episode[key] != theirs["episodes"][name][key]]
        print(
            f"{name}: {len(episode['image'])} frames, {'DIFFERENT: ' + ', '.join(different) if different else 'equal'}"
        )
    print(f"events: {len(ours['events'])}, {'equal' if ours['events'] == theirs['events'] else 'DIFFERENT'}")
    if ours != theirs:
        raise SystemExit("MineStudio reads something else")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read_as_peer(*sys.argv[2:])
    else:
        main()

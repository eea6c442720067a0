"""mscore's reader of MineStudio's datasets, benchmarked by ``bench_data.py``."""

import hashlib
import os
from pathlib import Path

from benchmark_worker import milliseconds, one_core, play, serve
from mscore_plugin_minestudio import MineDataModule
from mscore_plugin_minestudio.frames.decoding import Decoders
from mscore_plugin_minestudio.frames.mp4 import read_track
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.transcoding.transcoding import transcode


def make_module(dataset, size, window, workers=0, continuous=False):
    """The data module."""
    module = MineDataModule(
        data_params={
            "dataset_dirs": [dataset],
            "frame_width": size,
            "frame_height": size,
            "win_len": window,
            "split_ratio": 0.8,
        },
        batch_size=4,
        num_workers=workers,
        episode_continuous_batch=continuous,
    )
    module.prepare_data()
    module.setup()
    return module


def cpu(dataset, size, window, batches):
    """Milliseconds of CPU time to read a frame, and a hash of the images; a batch at a time."""
    windows = make_module(dataset, size, window).train_dataset

    def read():
        for batch in batches:
            windows.__getitems__(batch)

    with one_core():
        found = milliseconds(read, window * sum(map(len, batches)))
    digest = hashlib.sha256()
    for batch in batches[:2]:
        digest.update(windows.__getitems__(batch)["image"].numpy().tobytes())
    return {"milliseconds": found, "images": digest.hexdigest()}


def floor(dataset, frames):
    """Milliseconds of CPU time to decode a frame, and nothing else."""
    store = open_catalog([dataset], ["image"]).stores["image"]
    episode = next(iter(store.episodes))
    payloads = [store.read_chunk(episode, start) for start in range(0, frames, store.chunk_frames)]
    tracks = [read_track(payload) for payload in payloads]
    decoders = Decoders()

    def decode():
        for payload, track in zip(payloads, tracks, strict=True):
            decoder = decoders.take(track)
            for _ in decoder.decode(payload, track.samples):
                pass
            decoders.give_back(decoder)

    with one_core():
        return {"milliseconds": milliseconds(decode, frames)}


def wall(dataset, size, window, workers, batches):
    """What the loader gives and takes."""
    return play(make_module(dataset, size, window, workers).train_dataloader(), batches)


def memory(dataset, size, window):
    """Megabytes by which the process grows between the first quarter of an epoch and its end."""
    loader = make_module(dataset, size, window, continuous=True).train_dataloader()
    early = 0.0
    for number, _ in enumerate(loader):
        if number == len(loader) // 4:
            early = _resident()
    return {"megabytes": _resident() - early}


def _resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def make(dataset, form, to):
    """Transcode a dataset to 128x128; bytes of its images before and after."""
    report = transcode(Path(dataset), Path(to), (128, 128), form, workers=2)
    return {"before": report.bytes_before, "after": report.bytes_after}


if __name__ == "__main__":
    serve({"cpu": cpu, "floor": floor, "wall": wall, "memory": memory, "make": make})

"""Datasets of moving, textured scenes, for benchmarks: in MineStudio's layout, as its converter stores them."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from mscore_plugin_minestudio.storage.layout import CAMERA_KEY, FLAG_KEYS
from mscore_plugin_minestudio.writing.writer import DatasetWriter

STORED = {"224": (224, 224), "360": (640, 360)}
"""Name of a dataset to the width and height of its stored frames; MineStudio's converter stores the first."""

VERSION = 1
PARTS = 4
WIDTH, HEIGHT = 640, 360
SPRITE = 128


def datasets(folder: Path, episodes: int, frames: int) -> dict[str, Path]:
    """The datasets of :data:`STORED`, made the first time that they are needed."""
    root = folder / f"moving-scenes-{episodes}x{frames}-v{VERSION}"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        numbers = np.array_split(np.arange(episodes), PARTS)
        jobs = [(root, f"part-{part + 1}", own.tolist(), frames) for part, own in enumerate(numbers)]
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
            list(processes.map(_write_part, *zip(*jobs, strict=True)))
        (root / "ready").touch()
    return {name: root / name for name in STORED}


def _write_part(root: Path, part: str, episodes: list[int], frames: int) -> None:
    cv2.setNumThreads(1)
    writers = [DatasetWriter(root / name, part, image_size=size) for name, size in STORED.items()]
    with writers[0], writers[1]:
        for number in episodes:
            name, actions, images = f"episode-{number:03d}", act(number, frames), scene(number, frames)
            with writers[0].episode(name) as first, writers[1].episode(name) as second:
                for start in range(0, frames, 32):
                    some = np.stack(list(islice(images, 32)))
                    for target in (first, second):
                        target.extend(image=some, action={key: of[start : start + 32] for key, of in actions.items()})


def act(seed: int, frames: int) -> dict[str, np.ndarray]:
    """Random actions."""
    random = np.random.default_rng(seed)
    flags = {key: (random.random(frames) < 0.2).astype(np.int64) for key in FLAG_KEYS}
    return flags | {CAMERA_KEY: 3 * random.normal(size=(frames, 2))}


def scene(seed: int, frames: int):
    """Frames (360, 640, 3) of a walk over a landscape: it turns and comes nearer, a thing moves in front."""
    random = np.random.default_rng(seed)
    world, thing = _texture(random, 1440, 1920), _texture(random, SPRITE, SPRITE)
    place, velocity = np.array([960.0, 720.0, 0.0]), np.zeros(3)
    for frame in range(frames):
        velocity = 0.9 * velocity + random.normal(size=3) * (1.5, 0.8, 0.1)
        place = np.clip(place + velocity, (500, 400, -20), (1400, 1000, 20))
        view = cv2.getRotationMatrix2D(place[:2], place[2], 1 + 0.2 * np.sin(frame / 50))
        view[:, 2] += (WIDTH / 2, HEIGHT / 2) - place[:2]
        image = cv2.warpAffine(world, view, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        left = int((WIDTH - SPRITE) / 2 + 200 * np.sin(frame / 30))
        top = int((HEIGHT - SPRITE) / 2 + 80 * np.cos(frame / 17))
        image[top : top + SPRITE, left : left + SPRITE] = thing
        yield image


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured noise of all sizes."""
    sum_ = random.normal(size=(height, width, 3)).astype(np.float32)
    for size in (4, 8, 16, 32, 64):
        noise = random.normal(size=(height // size + 2, width // size + 2, 3)).astype(np.float32)
        sum_ += size**0.5 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.normalize(sum_, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)

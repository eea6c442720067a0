"""Recordings as OpenAI's VPT recorder leaves them, made by the tests themselves (fixture ``vpt``)."""

import json

import av
import numpy as np

KEYS = ["w", "a", "s", "d", "q", "e", "space", "left.shift", "left.control", "1", "5", "9", "escape", "f"]


def lines(frames, seed=0):
    """The lines of a recording: somebody runs about, digs, rests, and opens the inventory at times."""
    rng = np.random.default_rng(seed)
    stats = {"minecraft.custom:minecraft.play_one_minute": 900, "minecraft.custom:minecraft.jump": 7}
    yaw, pitch, hotbar, buttons, rows = float(rng.uniform(-180, 180)), 10.0, 0, [], []
    for tick in range(frames):
        rests = tick % 17 > 12
        is_open = tick % 40 > 34
        keys = [] if rests else [f"key.keyboard.{key}" for key in rng.choice(KEYS, 2, replace=False)]
        dx, dy = (0.0, 0.0) if rests else (float(rng.integers(-80, 80)), float(rng.integers(-40, 40)))
        before, buttons = buttons, [] if rests else [int(b) for b in np.flatnonzero(rng.random(3) < 0.3)]
        hotbar = int(rng.integers(9)) if tick % 11 == 5 else hotbar
        stats["minecraft.custom:minecraft.play_one_minute"] += 1
        stats["minecraft.custom:minecraft.walk_one_cm"] = 10 * tick
        if "key.keyboard.space" in keys:
            stats["minecraft.custom:minecraft.jump"] += 1
        if tick % 13 == 9:
            stats["minecraft.mine_block:minecraft.oak_log"] = stats.get("minecraft.mine_block:minecraft.oak_log", 0) + 2
        rows.append(
            {
                "mouse": {
                    "x": 640.0 + tick, "y": 360.0 + tick, "dx": dx, "dy": dy, "scaledX": dx / 4, "scaledY": dy / 4,
                    "dwheel": 0.0, "buttons": buttons, "newButtons": [b for b in buttons if b not in before],
                },
                "keyboard": {"keys": keys, "newKeys": [], "chars": ""},
                "isGuiOpen": is_open,
                "isGuiInventory": is_open,
                "hotbar": hotbar,
                "yaw": yaw, "pitch": pitch, "xpos": 0.1 * tick, "ypos": 64.0, "zpos": -3.25,
                "tick": tick, "milli": 1_650_000_000_000 + 50 * tick,
                "inventory": [{"type": "oak_log", "quantity": tick // 13}] if tick > 12 else [],
                "serverTick": 6000 + tick, "serverTickDurationMs": 12.5,
                "stats": dict(stats),
            }
        )  # fmt: skip
        yaw, pitch = yaw + dx * 0.15, pitch + dy * 0.15
    return rows


def pictures(frames, seed=0, size=(640, 360)):
    """A textured scene that moves, with the frame's number as a bar code: 8 blocks of 16 pixels, top left."""
    width, height = size
    rng = np.random.default_rng(seed)
    scene = rng.integers(30, 226, (-(-height // 20), -(-width // 20), 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    for number in range(frames):
        picture = np.ascontiguousarray(np.roll(scene[:height, :width], 3 * number, axis=1))
        for bit in range(8):
            picture[:16, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
        yield picture


def number_of(picture):
    """What the bar code of a picture, of any size, says."""
    height, width = picture.shape[:2]
    row, columns = 8 * height // 360, [(16 * bit + 8) * width // 640 for bit in range(8)]
    return sum((int(picture[row, column].mean()) > 127) << bit for bit, column in enumerate(columns))


def write_video(path, images, fps=20):
    """Write an H.264 video of RGB pictures."""
    images = list(images)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "18"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def record(folder, name, frames=70, *, seed=0, video_frames=None, fps=20, size=(640, 360), change=None):
    """Write ``<name>.mp4`` and ``<name>.jsonl``; ``change`` may alter the lines before."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = lines(frames, seed)
    if change:
        change(rows)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_video(folder / f"{name}.mp4", pictures(video_frames or frames, seed, size), fps)

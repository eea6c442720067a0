"""A world in small with Minecraft's actions and pictures, for the policies that play it.

It is a module of its own so that environments' processes can import it, and a plugin file, so that configs can name
it.
"""

from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from mscore import hookimpl

BUTTONS, CAMERA, SIDE = 6, 9, 32
ACTIONS = spaces.Dict({"buttons": spaces.MultiDiscrete([BUTTONS]), "camera": spaces.MultiDiscrete([CAMERA])})
PICTURE = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)


@hookimpl
def mscore_environments():
    return {"small-minecraft": "ppo_minecraft:make"}


def make(segmentation: bool = False, video: str | None = None, length: int = 5):
    """Make a world.

    Args:
        segmentation: show the mask of the object, as ROCKET-1 needs it.
        video: show the path of a reference video, as GROOT needs it.
        length: steps after which an episode is cut off.
    """
    return gymnasium.wrappers.TimeLimit(SmallMinecraft(segmentation, video), length)


class SmallMinecraft(gymnasium.Env):
    """A bright square is somewhere; button 1 on it is worth 1, button 5 ends the episode, the camera moves it."""

    action_space = ACTIONS

    def __init__(self, segmentation=False, video=None):
        self.segmentation, self.video = segmentation, video
        seen = {"image": PICTURE}
        if segmentation:
            seen["segmentation"] = spaces.Dict(
                {"obj_mask": spaces.Box(0, 1, (SIDE, SIDE), np.uint8), "obj_id": spaces.Discrete(8, start=-1)}
            )
        if video is not None:
            seen["ref_video_path"] = spaces.Text(len(video), charset=frozenset(video))
        self.observation_space = spaces.Dict(seen)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(4))
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward = float(action["buttons"][0] == 1)
        self.place = (self.place + int(action["camera"][0])) % 4
        return self.observe(), reward, bool(action["buttons"][0] == 5), False, {"success": reward > 0}

    def observe(self):
        image = self.np_random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        half = SIDE // 2
        row, column = divmod(self.place, 2)
        mask[row * half : (row + 1) * half, column * half : (column + 1) * half] = 1
        image[mask == 1] += 150
        seen = {"image": image}
        if self.segmentation:
            seen["segmentation"] = {"obj_mask": mask, "obj_id": np.int64(self.place)}
        if self.video is not None:
            seen["ref_video_path"] = self.video
        return seen


def write_video(path: Path) -> str:
    """A video for GROOT to follow."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for shade in (0, 90, 180):
            picture = np.full((SIDE, SIDE, 3), shade, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return str(path)

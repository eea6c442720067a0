"""The plugin held against the contracts, following a reference video: without one, a window is its own."""

import av
import numpy as np
from gymnasium import spaces

from mscore.testing import Sample, conformance


class VideoPath(spaces.Text):
    """Names one video."""

    def __init__(self, path):
        super().__init__(len(path))
        self.path = path

    def sample(self, mask=None, probability=None):
        return self.path


def groot(folder):
    path = folder / "reference.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in (0, 90, 180):
            picture = np.full((64, 64, 3), shade, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    small = {
        "backbone": "test_resnet.r160_in1k",
        "freeze_backbone": False,
        "hiddim": 32,
        "video_encoder_kwargs": {"num_spatial_layers": 1, "num_temporal_layers": 1, "num_heads": 4},
        "image_encoder_kwargs": {"num_layers": 1, "num_heads": 4},
        "decoder_kwargs": {"num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8},
        "pretrained": False,
    }
    seen = spaces.Dict({"image": spaces.Box(0, 255, (64, 64, 3), np.uint8), "ref_video_path": VideoPath(str(path))})
    return Sample(small, observation_space=seen)


test_conformance = conformance("mscore-plugin-groot", samples={"policy/groot": groot})

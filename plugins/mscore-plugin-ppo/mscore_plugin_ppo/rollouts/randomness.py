"""Random numbers of a rollout worker: a stream of its own, wherever the worker runs."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mscore import random_state


class RandomStream:
    """States of the random generators that only their owner draws from.

    What a worker draws so depends on its seed alone, and not on who else lives in its process: acting in the
    trainer's process and in one of its own gives the same.

    Args:
        seed: where the stream begins.
    """

    def __init__(self, seed: int) -> None:
        outside = random_state.capture()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self.state: dict[str, Any] = random_state.capture()
        random_state.restore(outside)

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Let everything within draw from this stream; what is outside goes on as if nothing had been drawn."""
        outside = random_state.capture()
        random_state.restore(self.state)
        try:
            yield
        finally:
            self.state = random_state.capture()
            random_state.restore(outside)


def seed_of_worker(seed: int, worker: int) -> int:
    """The seed of one of several workers of a training; the first has the training's own."""
    return seed if worker == 0 else int(np.random.SeedSequence((seed, worker)).generate_state(1)[0] >> 1)

import warnings
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

GOLDEN = Path(__file__).with_name("golden")

LENGTHS = [7, 12, 1, 9, 5, 10]


@pytest.fixture(scope="session")
def golden():
    """A folder of datasets that Minari's DataCollector wrote from environments (golden/record.py)."""
    return GOLDEN


def stacked(samples):
    """What an EpisodeBuffer holds of a list of samples: the nest of their space, with lists at its leaves."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: stacked([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        return tuple(stacked([sample[place] for sample in samples]) for place in range(len(first)))
    return samples


def sampled_episode(observation_space, action_space, length):
    """An episode of random observations, actions and rewards."""
    random = np.random.default_rng(length)
    return EpisodeBuffer(
        observations=stacked([observation_space.sample() for _ in range(length + 1)]),
        actions=stacked([action_space.sample() for _ in range(length)]),
        rewards=random.random(length).tolist(),
        terminations=[False] * (length - 1) + [length % 2 == 0],
        truncations=[False] * (length - 1) + [length % 2 == 1],
        infos={},
    )


@pytest.fixture(scope="session")
def write():
    """Write a dataset of random samples with Minari's own writer."""

    def write(
        root,
        dataset_id="test/sampled-v0",
        observation_space=None,
        action_space=None,
        lengths=LENGTHS,
        buffers=None,
        **options,
    ):
        observation_space = observation_space or spaces.Box(-1, 1, (3,), np.float32)
        action_space = action_space or spaces.Discrete(4)
        observation_space.seed(0)
        action_space.seed(0)
        if buffers is None:
            buffers = [sampled_episode(observation_space, action_space, length) for length in lengths]
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setenv("MINARI_DATASETS_PATH", str(root))
            minari.create_dataset_from_buffers(
                dataset_id, buffers, observation_space=observation_space, action_space=action_space, **options
            )
        return {"dataset_id": dataset_id, "root": str(root)}

    return write


@pytest.fixture(scope="session")
def read_by_minari():
    """The episodes of a dataset as Minari itself reads them."""

    def read(dataset_id, root):
        dataset = minari.MinariDataset(Path(root) / dataset_id / "data")
        return list(dataset.iterate_episodes())

    return read

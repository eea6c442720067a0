"""Reading in several processes: forked and spawned workers, two ranks, files opened once in each process."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gymnasium import spaces
from mscore_plugin_minari import MinariDataModule, hdf5

SCRIPT = Path(__file__).with_name("two_rank_fit.py")


SPACE = spaces.Dict({"place": spaces.Box(-1, 1, (3,)), "text": spaces.Text(5)})


def prepared(dataset_id, root, **arguments):
    module = MinariDataModule(dataset_id, str(root), **{"win_len": 4, "batch_size": 2, "split_ratio": 1.0, **arguments})
    module.prepare_data()
    module.setup()
    return module


def content(batches):
    return [(batch["episode"], batch["text"], batch["place"].tolist(), batch["mask"].tolist()) for batch in batches]


@pytest.mark.parametrize(
    ("data_format", "method"), [("hdf5", "fork"), ("arrow", "fork"), ("parquet", "fork"), ("hdf5", "spawn")]
)
def test_workers_read_what_the_training_process_reads(tmp_path, write, data_format, method):
    module = prepared(**write(tmp_path, observation_space=SPACE, data_format=data_format))
    loaders = [
        module.training_loader(module.train_set, batch_size=2, num_workers=workers, **options)
        for workers, options in ((0, {}), (2 if method == "fork" else 1, {"multiprocessing_context": method}))
    ]
    assert module.train_set[0]["mask"].any(), "the file is open here when the workers begin"
    expected = content(loaders[0])
    for _ in range(2):
        assert content(loaders[1]) == expected


def test_a_forked_process_opens_the_file_itself(tmp_path, write):
    module = prepared(**write(tmp_path))
    source = module.train_set._source
    module.train_set.read(0, 0, 2)
    here = source._file

    def child(pipe):
        module.train_set.read(0, 0, 2)
        pipe.send((source._file is here, source._opened_by == os.getpid()))

    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    assert receiver.recv() == (False, True)
    process.join()
    assert source._file is here
    module.train_set.read(0, 0, 2)


def test_a_pickled_dataset_has_nothing_open(tmp_path, write):
    module = prepared(**write(tmp_path))
    before = module.train_set[1]
    copy = pickle.loads(pickle.dumps(module.train_set))
    assert copy._source._file is None
    assert torch.equal(copy[1]["image"], before["image"])


def test_no_more_stays_open_however_much_is_read(tmp_path, write, monkeypatch):
    monkeypatch.setattr(hdf5, "OPEN_NODES", 20)
    module = prepared(**write(tmp_path, lengths=[3] * 40))
    source = module.train_set._source
    opened = []
    for _ in range(3):
        for batch in module.train_dataloader():
            assert batch["mask"].any()
            opened.append(hdf5.h5py.h5f.get_obj_count(source._file.id, hdf5.h5py.h5f.OBJ_ALL))
    # Two rows are read after the count is looked at: six nodes each.
    assert max(opened) <= 20 + 1 + 12


def test_two_ranks_share_the_lanes_of_one_process(golden, tmp_path):
    dataset = {"dataset_id": "pendulum/random-v0", "root": golden}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), dataset["dataset_id"], str(golden), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    together = [[*map(tuple, one), *map(tuple, other)] for one, other in zip(*ranks, strict=True)]
    alone = [
        list(
            zip(
                batch["episode"],
                batch["timestamp"][:, 0].tolist(),
                batch["image"].double().sum((1, 2)).tolist(),
                strict=True,
            )
        )
        for batch in prepared(**dataset, batch_size=4, seed=3).train_dataloader()
    ]
    assert together == alone
    assert len(alone) == 10

"""``reference-kl`` in a run: its source is a run's directory, and a resumed run goes on exactly."""

import csv

import pytest
import torch

import mscore
from mscore.errors import MscoreError
from mscore.plugins import installed_plugins

pytest.importorskip("mscore_plugin_kl")


@pytest.fixture
def first(tiny, monkeypatch):
    """A finished run, to be the reference of others."""
    monkeypatch.setenv("MSCORE_PLUGINS", "tiny,kl")
    installed_plugins.cache_clear()
    return mscore.run({"defaults": ["tiny"], "trainer": {"max_steps": 8}}).directory


def config(source, steps=8):
    return {
        "defaults": ["tiny"],
        "init_from": str(source),
        "objectives": {"imitate": {}, "reference-kl": {"source": str(source), "weight": 0.5}},
        "trainer": {"max_steps": steps},
        "log_freq": 1,
    }


def divergences(directory):
    rows = csv.DictReader((directory / "metrics.csv").open())
    return [float(row["train/reference-kl/kl_div"]) for row in rows if row["train/reference-kl/kl_div"]]


def weights(directory):
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_policy_begins_at_its_reference_and_leaves_it(first):
    directory = mscore.run(config(first)).directory
    values = divergences(directory)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[-1] > 1e-6
    assert weights(directory).keys() == weights(first).keys()


def test_a_resumed_run_goes_on_exactly(first):
    # An epoch of the tiny data, which cannot go on inside of one, has 8 steps.
    whole = mscore.run(config(first, steps=16)).directory
    half = mscore.run(config(first, steps=8)).directory
    mscore.run(resume=half, overrides=["trainer.max_steps=16"])
    assert divergences(half) == divergences(whole)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(half).items())


def test_a_source_that_is_not_there_stops_the_run_before_it_trains(first, tiny):
    with pytest.raises(
        MscoreError, match=r"objectives\.reference-kl.*no run, checkpoint or exported policy at nowhere"
    ):
        mscore.run({**config(first), "objectives": {"imitate": {}, "reference-kl": {"source": "nowhere"}}})


def test_without_a_source_the_reference_is_what_training_begins_from(first):
    named = mscore.run(config(first)).directory
    unnamed = {**config(first), "objectives": {"imitate": {}, "reference-kl": {"weight": 0.5}}}
    assert divergences(mscore.run(unnamed).directory) == divergences(named)


def test_without_a_source_and_a_beginning_the_message_says_what_is_missing(first):
    with pytest.raises(MscoreError, match="needs one reference: `source`"):
        mscore.run({**config(first), "init_from": None, "objectives": {"imitate": {}, "reference-kl": {}}})

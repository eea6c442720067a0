"""Environments in processes of their own: killed, hung and crashing ones, with real processes and signals."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.environments.supervised import SupervisedEnvironments

from mscore import MscoreError, as_environment

sys.path.insert(0, str(Path(__file__).parent))  # the environments' processes import what they unpickle

from ppo_faulty import Factory, Faulty


@pytest.fixture
def make():
    made = []

    def start(num_envs=2, arguments=None, **settings):
        made.append(SupervisedEnvironments(as_environment(Factory(**(arguments or {}))), num_envs, seed=0, **settings))
        return made[-1]

    yield start
    for one in made:
        one.close()


def act(environments, steps, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(steps):
        yield environments.step(random.integers(0, 2, environments.num_envs))


def until(environments, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        moved = environments.step(np.zeros(environments.num_envs, dtype=np.int64))
        if condition(moved):
            return moved
    raise AssertionError("it did not come")


def test_processes_and_this_process_give_the_same(make):
    apart = make()
    here = InProcessEnvironments(as_environment(Factory()), 2, seed=0)
    np.testing.assert_array_equal(apart.reset(), here.reset())
    for one, other in zip(act(apart, 60), act(here, 60), strict=True):
        np.testing.assert_array_equal(one.observation, other.observation)
        np.testing.assert_array_equal(one.terminated, other.terminated)
        np.testing.assert_array_equal(one.began, other.began)
        assert one.final.keys() == other.final.keys()
        for row in one.final:
            np.testing.assert_array_equal(one.final[row][0], other.final[row][0])


def test_they_are_brought_back_to_where_they_were(make):
    environments = make()
    environments.reset()
    list(act(environments, 30))
    saved = environments.state_dict()
    expected = [moved.observation for moved in act(environments, 20, seed=1)]
    others = make()
    others.load_state_dict(saved)
    for moved, observation in zip(act(others, 20, seed=1), expected, strict=True):
        np.testing.assert_array_equal(moved.observation, observation)


def test_a_process_that_is_killed_is_replaced_while_the_others_go_on(make):
    environments = make(num_envs=3)
    environments.reset()
    list(act(environments, 5))
    os.kill(environments.processes[1].pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="environment 1 ended with exit code -9.*it is replaced"):
        moved = until(environments, lambda moved: not moved.valid[1])
    assert moved.valid.tolist() == [True, False, True]
    back = until(environments, lambda moved: moved.began[1] and not moved.valid[1])
    assert time.monotonic() - began < 10  # a start takes about one second of a free core
    assert back.valid[0]
    assert until(environments, lambda moved: moved.valid.all())
    assert environments.health() == {"died": 1}


def test_all_processes_killed_at_once_are_replaced(make):
    environments = make()
    environments.reset()
    for process in environments.processes:
        os.kill(process.pid, signal.SIGKILL)
    with pytest.warns(UserWarning, match="is replaced"):
        until(environments, lambda moved: moved.valid.all())
    assert environments.health() == {"died": 2}


def test_a_process_that_hangs_is_named_and_replaced(make):
    environments = make(arguments={"fault": "hang", "at": 5}, step_timeout=0.5)
    environments.reset()
    with pytest.warns(UserWarning, match=r"environment 0 gave no answer within 0.5 s"):
        until(environments, lambda moved: not moved.valid.any())
    assert environments.health() == {"hung": 2}


def test_a_process_that_is_stopped_counts_as_hung(make):
    environments = make(step_timeout=0.5)
    environments.reset()
    os.kill(environments.processes[0].pid, signal.SIGSTOP)
    with pytest.warns(UserWarning, match="environment 0 gave no answer"):
        until(environments, lambda moved: not moved.valid[0])


@pytest.mark.parametrize(
    ("fault", "text"), [("raise", "the game crashed"), ("reset", "no level could be made"), ("die", "exit code -9")]
)
def test_an_environment_that_fails_again_and_again_stops_the_run_with_what_it_said(make, fault, text):
    environments = make(arguments={"fault": fault}, max_restarts=2)

    def play():
        environments.reset()
        until(environments, lambda moved: False)

    with pytest.warns(UserWarning, match="is replaced"), pytest.raises(MscoreError, match=f"{text}.*so did 2 before"):
        play()


def test_a_factory_that_cannot_be_handed_over_is_an_error():
    environments = SupervisedEnvironments(as_environment(lambda: Faulty()), 1, seed=0)
    with pytest.raises(MscoreError, match="must be picklable"):
        environments.reset()


def test_closing_ends_the_processes(make):
    environments = make()
    environments.reset()
    processes = environments.processes
    environments.close()
    assert not any(process.is_alive() for process in processes)

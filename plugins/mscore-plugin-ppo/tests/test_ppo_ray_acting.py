"""Acting in actors on a real Ray: the same as in the trainer's process, and going on when actors die or hang."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import torch
from mscore_plugin_ppo import LocalRolloutManager, PPOTrainer, RayRolloutManager
from mscore_plugin_ppo.cluster.connection import connected
from mscore_plugin_ppo.rollouts.versions import ModelVersion

from mscore import MscoreError

sys.path.insert(0, str(Path(__file__).parent))  # the actors import what they unpickle

import ppo_on_ray as parts

pytestmark = pytest.mark.slow

SMALL = {"num_envs": 4, "fragment_length": 16}
PPO = {"num_iterations": 6, "batch_size_per_gpu": 2, "batches_per_iteration": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with connected(None, 4):
        yield


@pytest.fixture
def manager():
    made = []

    def make(policy=parts.policy, env=parts.cartpole, **arguments):
        one = RayRolloutManager(policy, env, **{**SMALL, **arguments})
        made.append(one)
        one.update_model(version(1, policy))
        return one

    yield make
    for one in made:
        one.close()


def version(number, policy=parts.policy):
    return ModelVersion("session", number, policy().state_dict())


class Watch:
    """Keeps what each iteration reported."""

    def __init__(self, look=None):
        self.rows, self.look = [], look

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        self.rows.append(dict(metrics))
        if self.look is not None:
            self.look(trainer)

    def on_end(self, trainer):
        pass

    def close(self):
        pass


def fit(look=None, **arguments):
    watch = Watch(look)
    trainer = PPOTrainer(None, parts.policy, parts.cartpole, monitors=[watch], **{**SMALL, **PPO, **arguments})
    torch.manual_seed(7)
    trainer.fit()
    return trainer, watch.rows


def weights(trainer):
    return torch.cat([one.detach().flatten() for one in trainer.policy.parameters()])


def pids(manager):
    return ray.get([member.actor.pid.remote() for member in manager.crew.members])


@pytest.mark.parametrize("settings", [{}, {"max_reuse": 2, "use_normalized_vf": True}], ids=str)
def test_one_actor_gives_to_the_last_bit_what_the_trainers_own_process_gives(settings):
    here, rows_here = fit(**settings)
    there, rows_there = fit(num_rollout_workers=1, **settings)
    assert rows_here == rows_there
    assert torch.equal(weights(here), weights(there))


def test_a_checkpoint_of_either_is_gone_on_from_exactly_by_the_other(tmp_path):
    whole, _ = fit()
    fit(num_iterations=3, save_path=tmp_path, num_rollout_workers=1)
    here, _ = fit(resume=tmp_path / "iteration-3.ckpt")
    there, _ = fit(resume=tmp_path / "iteration-3.ckpt", num_rollout_workers=1)
    assert torch.equal(weights(here), weights(whole))
    assert torch.equal(weights(there), weights(whole))


def test_actors_differ_and_their_fragments_come_in_rounds(manager):
    made = manager(num_rollout_workers=2, num_envs=8)
    fragments = made.fetch_fragments(16)
    assert [one.worker for one in fragments] == ["0", "1", "0", "1"]
    assert [one.number for one in fragments] == [0, 0, 1, 1]
    assert not torch.equal(fragments[0].observation["image"], fragments[1].observation["image"])
    with pytest.raises(MscoreError, match="12 fragments were asked for, and they come 8 at a time"):
        made.fetch_fragments(12)


def test_an_actor_that_is_killed_comes_back_with_the_current_version(manager):
    made = manager(parts.numbered, num_rollout_workers=2, num_envs=8)
    made.fetch_fragments(8)
    for number in (2, 3):
        state = {name: torch.full_like(one, number) for name, one in parts.numbered().state_dict().items()}
        made.update_model(ModelVersion("session", number, state))
    before = pids(made)
    os.kill(before[1], signal.SIGKILL)
    with pytest.warns(UserWarning, match="rollout worker 1 died"):
        fragments = made.fetch_fragments(8)
    assert [one.version for one in fragments] == [3, 3]
    assert all((one.steps.values == 3).all() for one in fragments)
    assert [one.number for one in fragments] == [1, 0]  # the other one's fragment was kept
    assert made.health()["workers_died"] == 1
    assert pids(made)[0] == before[0]
    assert pids(made)[1] != before[1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore:rollout worker")
def test_training_reaches_its_end_although_an_actor_is_killed(workers):
    def kill(trainer):
        if trainer.iteration == 2:
            os.kill(pids(trainer.rollout_manager)[0], signal.SIGKILL)

    trainer, rows = fit(kill, num_rollout_workers=workers)
    assert trainer.iteration == 6
    assert trainer.env_steps == 6 * 8 * 16
    assert rows[-1]["rollout/workers_died"] == 1


def test_an_actor_that_hangs_is_replaced(manager, tmp_path):
    env = parts.Doomed("hang", until=tmp_path / "hung")
    made = manager(env=env, num_envs=2, num_rollout_workers=2, fragment_timeout=3.0)
    began = time.monotonic()
    with pytest.warns(UserWarning, match=r"rollout worker \d gave no answer within 3 s"):
        assert len(made.fetch_fragments(2)) == 2
    assert time.monotonic() - began < 60
    assert made.health()["workers_hung"] == 1


@pytest.mark.filterwarnings("ignore:rollout worker")
def test_actors_that_die_again_and_again_stop_the_run(manager):
    made = manager(env=parts.Doomed("die"), num_envs=1, max_restarts=2)
    with pytest.raises(MscoreError, match=r"rollout worker 0 died .* and so did 2 before it"):
        made.fetch_fragments(1)


def test_what_an_environment_raises_reaches_the_user_as_it_does_from_the_trainers_process(manager):
    made = manager(env=parts.Doomed("raise"), num_envs=1)
    with pytest.raises(MscoreError, match=r"CartPole-v1 raised in step 2 .* the game crashed"):
        made.fetch_fragments(1)


def test_environments_of_an_actor_may_have_processes_of_their_own(manager, tmp_path):
    env = parts.Doomed("die", until=tmp_path / "died")
    made = manager(env=env, num_envs=2, env_processes=True)
    with pytest.warns(UserWarning, match=r"rollout worker 0: environment \d ended"):
        assert len(made.fetch_fragments(2)[0]) == 2
    assert made.health()["died"] in (1, 2)  # both may come to that step before one has left its mark
    assert "workers_died" not in made.health()


def test_actors_for_which_there_is_no_room_are_named():
    began = time.monotonic()
    with pytest.raises(MscoreError, match=r"rollout worker \d.* did not start within 4 s.*Each asks for 99 CPU"):
        RayRolloutManager(
            parts.policy, parts.cartpole, num_rollout_workers=2, num_cpus_per_rollout_worker=99, start_timeout=4.0
        )
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("where", ["here", "on ray"])
def test_labels_are_never_newer_than_the_weights(manager, where):
    settings = {"num_envs": 1, "fragment_length": 32, "max_staleness": 10**9}
    if where == "here":
        made = LocalRolloutManager(parts.numbered, parts.cartpole, **settings)
    else:
        made = manager(parts.numbered, **settings)
    names = list(parts.numbered().state_dict())
    number, over = 0, threading.Event()

    def hammer():
        nonlocal number
        while not over.is_set():
            number += 1
            state = {name: torch.full((200_000,) if "number" in name else (2,), float(number)) for name in names}
            made.update_model(ModelVersion("session", number, shaped(state)))

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        while number < 2:
            time.sleep(0.01)
        seen = [fragments for _ in range(10) for fragments in made.fetch_fragments(1)]
    finally:
        over.set()
        thread.join()
    assert len({one.version for one in seen}) > 3
    for one in seen:
        assert one.steps.values.min() >= one.version
        if where == "on ray":
            assert (one.steps.values == one.version).all()


def shaped(state):
    """Numbers in the shapes of the policy's weights."""
    return {
        name: state[name].flatten()[0].expand(one.shape).clone() for name, one in parts.numbered().state_dict().items()
    }


def test_asynchronous_actors_play_one_iteration_ahead_and_no_further(manager):
    made = manager(num_rollout_workers=2, num_envs=8, asynchronous=True)
    assert {one.version for one in made.fetch_fragments(8)} == {1}
    made.update_model(version(2))
    time.sleep(1.0)  # a slow learner
    assert {one.version for one in made.fetch_fragments(8)} == {1}
    made.update_model(version(3))
    found = made.fetch_fragments(8)
    assert {one.version for one in found} == {2}
    assert [one.number for one in found] == [2, 2]
    time.sleep(1.0)
    states = made.state_dict()["workers"]
    assert [one["collector"]["number"] for one in states] == [4, 4]
    assert len(made.buffer) == 8
    assert made.health()["dropped"] == 0


def test_asynchronous_training_learns_from_fragments_that_lag_one_version():
    trainer, rows = fit(num_rollout_workers=2, asynchronous=True)
    assert [row["rollout/staleness"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert trainer.env_steps == 6 * 8 * 16
    with pytest.raises(MscoreError, match="max_staleness is 0"):
        fit(num_rollout_workers=1, asynchronous=True, max_staleness=0)

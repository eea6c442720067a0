"""Training by Ray Train on a real Ray: in one process as in this one, in two as in one with the big batch."""

import sys
from pathlib import Path

import pytest
import torch
from mscore_plugin_ppo import PPOTrainer
from mscore_plugin_ppo.cluster.connection import connected

from mscore import MscoreError

sys.path.insert(0, str(Path(__file__).parent))  # the training processes import what they unpickle

import ppo_on_ray as parts

pytestmark = pytest.mark.slow

SMALL = {"num_envs": 4, "fragment_length": 16}
PPO = {"num_iterations": 4, "batch_size_per_gpu": 2, "batches_per_iteration": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with connected(None, 4):
        yield


def trained(kind=PPOTrainer, **arguments):
    trainer = kind(None, parts.policy, parts.cartpole, **{**SMALL, **PPO, **arguments})
    torch.manual_seed(7)
    returned = trainer.fit()
    return trainer, returned


def weights(trainer):
    return torch.cat([one.detach().flatten() for one in trainer.policy.parameters()])


def test_the_documented_subclass_learns_cartpole_in_a_training_process():
    trainer = parts.Reinforce(None, parts.policy, parts.cartpole, num_workers=1, num_envs=8, fragment_length=32)
    torch.manual_seed(1)
    lengths = trainer.fit()
    early, late = lengths[:30], lengths[-30:]
    assert sum(late) / len(late) > 2 * sum(early) / len(early)
    assert trainer.env_steps == 60 * 8 * 32
    assert trainer.version == 61


def test_one_training_process_and_one_actor_give_to_the_last_bit_what_this_process_gives(tmp_path):
    here, metrics_here = trained(save_path=tmp_path / "here")
    there, metrics_there = trained(save_path=tmp_path / "there", num_workers=1, num_rollout_workers=1)
    assert metrics_here == metrics_there
    assert torch.equal(weights(here), weights(there))
    on = {"num_iterations": 6, "resume": tmp_path / "there" / "iteration-4.ckpt"}
    there, _ = trained(**on, num_workers=1)
    here, _ = trained(num_iterations=6)
    assert torch.equal(weights(here), weights(there))


def test_ranks_stay_equal_when_one_of_them_has_a_loss_that_is_not_finite():
    trainer, rows = trained(parts.Poisoned, num_workers=2, num_rollout_workers=2, use_normalized_vf=False)
    assert [row["train/ppo/skipped_updates"] > 0 for row in rows] == [False, True, False, False]
    assert all(row["apart"] == 0.0 and row["finite"] for row in rows)
    assert trainer.env_steps == 4 * 2 * 4 * 16


def test_two_ranks_learn_from_their_shares_what_one_learns_from_the_whole():
    settings = {"batch_size_per_gpu": 4, "epochs_per_iteration": 1, "use_normalized_vf": True}
    found = {}
    for workers in (0, 2):
        trainer = parts.BigBatch(None, parts.policy, parts.cartpole, num_workers=workers, **SMALL, **settings)
        trainer.whole = parts.whole_batch()
        scale = trainer.fit()
        found[workers] = (weights(trainer), scale)
    assert (found[0][0] - torch.cat([one.flatten() for one in parts.policy().parameters()])).abs().max() > 1e-5
    torch.testing.assert_close(found[0][0], found[2][0], atol=2e-7, rtol=1e-5)
    assert found[0][1].mean == pytest.approx(found[2][1].mean, rel=1e-5)
    assert found[0][1].deviation == pytest.approx(found[2][1].deviation, rel=1e-5)


def test_what_goes_wrong_in_a_training_process_is_said_as_it_was_raised(capfd):
    with pytest.raises(MscoreError, match=r"^the rewards of this task are not known; name a reward$"):
        parts.Refusing(None, parts.policy, parts.cartpole, num_workers=2).fit()
    shown = capfd.readouterr()
    assert shown.out == "about to fail\n" * 2
    assert "Traceback" not in shown.err
    with pytest.raises(ZeroDivisionError) as caught:
        parts.Mistaken(None, parts.policy, parts.cartpole, num_workers=1).fit()
    assert caught.value.__notes__ == ["in training process 0"]


def test_training_processes_for_which_there_is_no_gpu_are_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        MscoreError, match=r"training process 0, 1 did not start within 3 s\. Each asks for 1 CPU and 1 GPU"
    ):
        trained(num_workers=2, num_gpus_per_worker=1, start_timeout=3.0)

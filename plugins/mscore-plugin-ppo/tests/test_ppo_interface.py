"""The interface that MineStudio documents: a subclass from its Usage section, ``start_trainer``, every argument."""

import inspect
import subprocess
import sys

import gymnasium
import pytest
import torch
from mscore_plugin_ppo import BaseTrainer, LocalRolloutManager, MLPPolicy, PPOTrainer, start_trainer
from mscore_plugin_ppo.rollouts.collector import Collector

from mscore import MscoreError
from mscore.testing.tiny import TinyEnvironment, TinyPolicy

SMALL = {"num_envs": 2, "fragment_length": 16}
SEEDS = [
    *("rollout_manager", "policy_generator", "env_generator", "num_workers", "num_readers", "num_cpus_per_reader"),
    *("num_gpus_per_worker", "prefetch_batches", "discount", "gae_lambda", "context_length", "use_normalized_vf"),
    *("inference_batch_size_per_gpu", "resume", "resume_optimizer"),
]


def cartpole():
    return gymnasium.make("CartPole-v1")


def policy():
    torch.manual_seed(0)
    env = cartpole()
    return MLPPolicy(16, observation_space=env.observation_space, action_space=env.action_space)


def ppo(make=policy, env=cartpole, **arguments):
    settings = {"num_iterations": 2, "batch_size_per_gpu": 1, "batches_per_iteration": 2, "learning_rate": 1e-3}
    return PPOTrainer(None, make, env, **{**SMALL, **settings, **arguments})


def test_the_documented_arguments_are_there_in_their_order():
    names = list(inspect.signature(BaseTrainer).parameters)
    assert names[: len(SEEDS)] == SEEDS


class Reinforce(BaseTrainer):
    """As the Usage section has it: two methods, a pair returned."""

    def setup_model_and_optimizer(self):
        model = self.policy_generator()
        return model, torch.optim.Adam(model.parameters(), 5e-3)

    def train(self):
        lengths = []
        for _ in range(60):
            data = self.fetch_fragments_and_estimate_advantages(num_fragments=8)
            for record in data["records"]:
                lengths += [episode.length for episode in record.episodes]
                latents, _ = self.model(record.batch(), record.state)
                logp = self.model.pi_head.logprob(record.action, latents["pi_logits"])
                value = latents["vpred"].squeeze(-1)
                loss = (
                    -(logp * data["advantages"]).mean() / 10 + 0.1 * (value - data["td_targets"]).square().mean() / 10
                )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.broadcast_model_to_rollout_workers(new_version=True)
        return lengths


def test_a_subclass_with_two_methods_learns_cartpole():
    torch.manual_seed(1)
    lengths = Reinforce(None, policy, cartpole, num_envs=8, fragment_length=32).fit()
    early, late = lengths[:30], lengths[-30:]
    assert sum(late) / len(late) > 2 * sum(early) / len(early)


def test_the_data_have_the_documented_parts():
    class Looking(Reinforce):
        def train(self):
            return self.fetch_fragments_and_estimate_advantages(num_fragments=4)

    data = Looking(None, policy, cartpole, **SMALL).fit()
    assert [len(record) for record in data["records"]] == [2, 2]
    for name in ("rewards", "td_targets", "advantages", "old_logps", "old_vpreds"):
        assert data[name].shape == (4, 16)
        assert data[name].dtype == torch.float32
    assert data["valid"].all()
    torch.testing.assert_close(data["td_targets"], data["advantages"] + data["old_vpreds"])


def trained(**arguments):
    trainer = ppo(**arguments)
    torch.manual_seed(3)
    trainer.fit()
    return torch.cat([parameter.detach().flatten() for parameter in trainer.policy.parameters()])


@pytest.mark.parametrize(
    "argument",
    [
        *({"discount": 0.5}, {"gae_lambda": 0.1}, {"use_normalized_vf": True}, {"seed": 1}, {"ppo_clip": 0.001}),
        *({"clip_vloss": True, "ppo_clip": 0.01}, {"max_grad_norm": 0.01}, {"ppo_vf_coef": 5.0}),
        *({"ppo_policy_coef": 0.0}, {"entropy_bonus_coef": 0.5}, {"kl_divergence_coef_rho": 5.0}),
        *({"kl_divergence_coef_rho": 5.0, "coef_rho_decay": 0.1}, {"vf_warmup": 1}, {"zero_initial_vf": True}),
        *({"normalize_advantage_full_batch": False}, {"learning_rate": 1e-2}, {"anneal_lr_linearly": True}),
        *({"weight_decay": 1.0}, {"adam_eps": 1e-2}, {"gradient_accumulation": 2}, {"epochs_per_iteration": 1}),
        *({"batches_per_iteration": 4}, {"batch_size_per_gpu": 2}, {"num_iterations": 1}, {"log_ratio_range": 0.0}),
        *({"num_envs": 1}, {"fragment_length": 8}, {"max_env_steps": 1}, {"max_reuse": 2}),
    ],
    ids=str,
)
def test_every_number_changes_what_is_learned(argument):
    assert not torch.equal(trained(**argument), trained())


@pytest.mark.parametrize("argument", [{}, {"num_readers": 2}, {"env_processes": False}], ids=str)
def test_what_only_changes_how_it_is_computed_changes_nothing_else(argument):
    assert torch.equal(trained(**argument), trained())


def recurrent():
    torch.manual_seed(0)
    return TinyPolicy()


def test_context_length_is_what_the_policy_reads_at_once(monkeypatch):
    lengths = []
    forward = TinyPolicy.forward

    def counted(self, input, state_in=None):
        if torch.is_grad_enabled():
            lengths.append(input["first"].shape[1])
        return forward(self, input, state_in)

    monkeypatch.setattr(TinyPolicy, "forward", counted)
    ppo(recurrent, TinyEnvironment(), context_length=5, num_iterations=1, epochs_per_iteration=1).fit()
    assert set(lengths) == {5, 1}  # 16 steps are three windows of 5 and one of 1
    lengths.clear()
    ppo(recurrent, TinyEnvironment(), context_length=64, num_iterations=1, epochs_per_iteration=1).fit()
    assert set(lengths) == {16}


def test_windows_of_a_fragment_give_the_values_of_the_whole():
    def gradients(length):
        trainer = ppo(recurrent, TinyEnvironment(), context_length=length, num_iterations=1, epochs_per_iteration=1)
        trainer.learning_rate = 0.0
        torch.manual_seed(5)
        return trainer.fit()["train/ppo/value_loss"]

    assert gradients(4) == pytest.approx(gradients(16), rel=1e-4)


def test_inference_batch_size_is_what_is_estimated_again_at_once(monkeypatch):
    sizes = []
    forward = TinyPolicy.forward

    def counted(self, input, state_in=None):
        if not torch.is_grad_enabled():
            sizes.append(tuple(input["first"].shape))
        return forward(self, input, state_in)

    monkeypatch.setattr(TinyPolicy, "forward", counted)
    arguments = {"max_reuse": 2, "num_envs": 4, "batch_size_per_gpu": 2, "context_length": 16}
    ppo(recurrent, TinyEnvironment(), inference_batch_size_per_gpu=3, **arguments).fit()
    assert {(3, 16), (1, 16)} <= set(sizes)
    sizes.clear()
    ppo(recurrent, TinyEnvironment(), inference_batch_size_per_gpu=4, **arguments).fit()
    assert (4, 16) in sizes
    assert (3, 16) not in sizes


@pytest.mark.parametrize(("readers", "cores", "threads"), [(0, 1.0, 0), (3, 0.1, 1), (4, 0.5, 2), (2, 4.0, 2)])
def test_readers_gather_minibatches_in_threads_of_their_own(readers, cores, threads):
    pool = ppo(num_readers=readers, num_cpus_per_reader=cores).readers()
    assert (0 if pool is None else pool._max_workers) == threads


def test_prefetch_batches_is_how_many_are_gathered_ahead(monkeypatch):
    from mscore_plugin_ppo.learner import minibatches

    ahead = []
    read = minibatches._read

    def watched(tasks, readers, count):
        ahead.append((readers is not None, count))
        return read(tasks, readers, count)

    monkeypatch.setattr(minibatches, "_read", watched)
    ppo(num_readers=1, prefetch_batches=3).fit()
    assert set(ahead) == {(True, 3)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(MscoreError, match="finds no GPU"):
        ppo(num_gpus_per_worker=1).fit()


def test_processes_without_ray_are_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("mscore_plugin_ppo.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    for asked in ({"num_workers": 1}, {"num_rollout_workers": 1}):
        with pytest.raises(MscoreError, match=r'pip install "mscore-plugin-ppo\[ray\]"'):
            ppo(**asked).fit()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"asynchronous": True}, "Set num_rollout_workers to at least 1"),
        ({"num_workers": 2, "num_rollout_workers": 3}, "3 rollout workers cannot be shared evenly by 2"),
        ({"num_workers": 3}, "num_envs is 2, and 3 training processes cannot share"),
        ({"num_rollout_workers": 4}, "num_envs is 2, and 4 rollout workers cannot share"),
        ({"num_rollout_worker": 1}, "unknown argument 'num_rollout_worker'"),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(arguments, message):
    with pytest.raises(MscoreError, match=message):
        ppo(**arguments)


def test_ray_is_not_imported_unless_it_is_asked_for():
    code = "import sys, mscore_plugin_ppo.adapter, mscore_plugin_ppo.trainers.start; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_resume_goes_on_and_resume_optimizer_says_with_what(tmp_path):
    ppo(save_path=tmp_path, num_iterations=4, save_interval=2, keep_interval=2).fit()
    whole = ppo(num_iterations=4)
    whole.fit()
    found = {}
    for keep in (True, False):
        trainer = ppo(num_iterations=4, resume=tmp_path / "iteration-2.ckpt", resume_optimizer=keep)
        torch.manual_seed(9)
        trainer.fit()
        assert trainer.iteration == 4
        assert trainer.env_steps == whole.env_steps
        found[keep] = trainer.policy.networks.weight_0
    assert not torch.equal(found[True], found[False])
    with pytest.raises(MscoreError, match="there is no checkpoint at"):
        ppo(resume=tmp_path / "iteration-9.ckpt").fit()


def test_checkpoints_of_multiples_of_the_interval_are_kept_and_the_last(tmp_path):
    ppo(save_path=tmp_path, num_iterations=9, save_interval=2, keep_interval=4).fit()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("iteration-4.ckpt", "iteration-8.ckpt", "iteration-9.ckpt"),
    ]


def test_a_rollout_manager_that_is_given_is_used_and_left_open(monkeypatch):
    manager = LocalRolloutManager(policy, cartpole, num_envs=2, fragment_length=8)
    collected = []
    collect = Collector.collect
    monkeypatch.setattr(Collector, "collect", lambda self, version: collected.append(self) or collect(self, version))
    settings = {"num_iterations": 1, "batch_size_per_gpu": 1, "batches_per_iteration": 2}
    PPOTrainer(manager, policy, cartpole, **settings).fit()
    assert collected == [manager.worker.collector]
    with pytest.raises(MscoreError, match="'num_envs' is for the rollout manager"):
        PPOTrainer(manager, policy, cartpole, num_envs=3)


def test_start_trainer_takes_mappings_with_two_or_three_configs():
    config = {
        "trainer_name": "PPOTrainer",
        "rollout_config": SMALL,
        "train_config": {"num_iterations": 1, "batch_size_per_gpu": 1, "batches_per_iteration": 2},
    }
    assert "train/loss" in start_trainer(policy, cartpole, config)
    assert "train/loss" in start_trainer(policy, cartpole, config, {"whole": config})
    assert start_trainer(policy, cartpole, {"trainer_name": Reinforce, "rollout_config": {"num_envs": 8}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train_confg": {}}, "unknown section 'train_confg'. Did you mean 'train_config'"),
        ({"trainer_name": "PPOTrainr"}, "unknown trainer 'PPOTrainr'. Did you mean 'PPOTrainer'"),
        ({"train_config": {"discont": 1}}, "unknown argument of train_config 'discont'. Did you mean 'discount'"),
        ({"rollout_config": {"num_env": 1}}, "unknown argument of rollout_config 'num_env'. Did you mean 'num_envs'"),
    ],
)
def test_start_trainer_names_what_it_does_not_know(config, message):
    with pytest.raises(MscoreError, match=message):
        start_trainer(policy, cartpole, config)
    with pytest.raises(MscoreError, match="unknown argument 'num_env'"):
        ppo(num_env=2)

"""Policies for Minecraft, and those with memory in general, trained online in a world in small."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mscore_plugin_ppo import PPOTrainer
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.rollouts.collector import Collector
from mscore_plugin_ppo.rollouts.versions import ModelVersion

import mscore
from mscore import as_environment, tree_map

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the environments' processes import what they unpickle

import ppo_minecraft  # noqa: E402

HEADS = {"num_heads": 4, "num_layers": 2, "timesteps": 4, "mem_len": 8}
SMALL = {
    "recurrent": {"hiddim": 16, "channels": 4},
    "vpt": {
        "policy_kwargs": {
            **{"attention_heads": 4, "attention_memory_size": 12, "timesteps": 4, "hidsize": 16},
            **{"img_shape": [32, 32, 3], "impala_width": 0.25, "n_recurrence_layers": 2, "pointwise_ratio": 2},
        }
    },
    "rocket": {"backbone": "test_resnet.r160_in1k", "hiddim": 16, "pretrained": False, **HEADS},
    "groot": {
        "backbone": "test_resnet.r160_in1k",
        "hiddim": 16,
        "pretrained": False,
        "freeze_backbone": False,
        "video_encoder_kwargs": {"num_spatial_layers": 1, "num_temporal_layers": 1, "num_heads": 4},
        "image_encoder_kwargs": {"num_layers": 1, "num_heads": 4},
        "decoder_kwargs": HEADS,
    },
}
"""Parameters of each policy, at sizes that a CPU trains in a moment."""

every_policy = pytest.mark.parametrize("name", SMALL)


class World:
    """The world as a policy needs it, and the policy."""

    def __init__(self, name, folder):
        self.name = name
        self.parameters = {}
        if name == "rocket":
            self.parameters = {"segmentation": True}
        if name == "groot":
            self.parameters = {"video": ppo_minecraft.write_video(folder / "reference.mp4")}

    def environment(self):
        return ppo_minecraft.make(**self.parameters)

    def policy(self):
        pytest.importorskip(f"mscore_plugin_{self.name}")
        from mscore.components import find

        torch.manual_seed(0)
        target = find("policy", self.name).load()
        seen = {"observation_space": self.environment().observation_space} if self.name == "recurrent" else {}
        return target(**SMALL[self.name], action_space=ppo_minecraft.ACTIONS, **seen).eval()


@pytest.fixture
def world(tmp_path):
    return lambda name: World(name, tmp_path)


def fragments(world, steps=8):
    """Fragments that begin in mid-episode, and the policy that played them."""
    torch.manual_seed(1)
    environment = as_environment(world.environment)
    collector = Collector(world.policy(), InProcessEnvironments(environment, 2, 0), environment, steps)
    collector.collect(ModelVersion("s", 1, {}))
    return collector.collect(ModelVersion("s", 1, {})), collector.policy


# --- a window is what was done step by step (T1) -----------------------------------------------------


@every_policy
def test_a_fragment_read_as_one_window_is_what_was_done_step_by_step(world, name):
    found, policy = fragments(world(name))
    batch = found.batch()
    assert batch["first"][:, 1:].any()
    assert not batch["first"][:, 0].all()
    with torch.no_grad():
        whole, after = policy(batch, found.state)
        state, logps, values = found.state, [], []
        for t in range(batch["first"].shape[1]):
            step = {key: cut(value, t) for key, value in batch.items()}
            fresh = policy.initial_state(2)
            state = tree_map(lambda one, new, first=step["first"]: where(first, new, one), state, fresh)
            # What an environment does at an episode's start: the state is thrown away, and nothing says so.
            latents, state = policy({**step, "first": torch.zeros_like(step["first"])}, state)
            logps.append(policy.pi_head.logprob(step["agent_action"], latents["pi_logits"]))
            values.append(latents["vpred"])
    logp = policy.pi_head.logprob(batch["agent_action"], whole["pi_logits"])
    torch.testing.assert_close(logp, torch.cat(logps, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(logp, found.logp, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole["vpred"], torch.cat(values, 1), atol=1e-5, rtol=0)
    following = {**found.next_observation, "first": torch.zeros(2, 1, dtype=torch.bool)}
    with torch.no_grad():
        one, other = (policy(following, memory)[0]["vpred"] for memory in (after, state))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def cut(value, t):
    if isinstance(value, list):
        return [row[t : t + 1] if isinstance(row, list) else row for row in value]
    return tree_map(lambda leaf: leaf[:, t : t + 1], value)


def where(first, new, old):
    return torch.where(first.view(-1, *[1] * (old.dim() - 1)), new.to(old.dtype), old)


@every_policy
def test_a_divergence_is_zero_from_itself_and_positive_from_another(world, name):
    policy = world(name).policy()
    head = policy.pi_head
    random = torch.Generator().manual_seed(0)
    one, other = (head(torch.randn(3, 4, policy.hiddim, generator=random) * 100) for _ in range(2))
    torch.testing.assert_close(head.kl_divergence(one, one), torch.zeros(3, 4, 1))
    assert (head.kl_divergence(one, other) > 0).all()


# --- the policy is learned from as it acts (T12) -------------------------------------------------------


class Watched(PPOTrainer):
    """Keeps the gradients that its optimizer is given, and changes nothing."""

    def setup_model_and_optimizer(self):
        policy = self.policy_generator()
        self.gradients = []
        optimizer = torch.optim.SGD(policy.parameters(), 0.0)
        optimizer.register_step_pre_hook(lambda *_: self.gradients.append(largest(policy)))
        return policy, optimizer


def largest(policy):
    return max(float(one.grad.abs().max()) for one in policy.parameters() if one.grad is not None)


class Rows:
    def __init__(self):
        self.rows = []

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        self.rows.append(metrics)

    def on_end(self, trainer):
        pass

    def close(self):
        pass


def watched(world, **arguments):
    rows = Rows()
    settings = {"num_envs": 2, "fragment_length": 7, "batch_size_per_gpu": 1, "batches_per_iteration": 2}
    trainer = Watched(
        None,
        world.policy,
        world.environment,
        **{
            **settings,
            "num_iterations": 2,
            "epochs_per_iteration": 1,
            "context_length": 4,
            "monitors": [rows],
            "max_grad_norm": 0,
            **arguments,
        },
    )
    torch.manual_seed(2)
    trainer.fit()
    return trainer, rows.rows


@every_policy
def test_a_policy_that_is_its_reference_has_no_divergence_and_no_gradient_of_it(world, name):
    alone = {"ppo_policy_coef": 0.0, "ppo_vf_coef": 0.0, "kl_divergence_coef_rho": 1.0}
    trainer, rows = watched(world(name), **alone)
    assert len(trainer.gradients) == 2 * 2
    assert max(row["train/ppo/reference_kl"] for row in rows) < 1e-6
    assert max(trainer.gradients) < 1e-5


@every_policy
def test_a_policy_that_was_not_changed_does_what_it_did(world, name):
    _, rows = watched(world(name))
    assert max(row["train/ppo/approx_kl"] for row in rows) < 1e-9
    assert max(row["train/ppo/clip_fraction"] for row in rows) == 0.0


# --- whole runs ------------------------------------------------------------------------------------------


def run(folder, world, *options, **trainer):
    config = {
        "name": world.name,
        "policy": {"use": world.name, **SMALL[world.name]},
        "environment": {"use": "small-minecraft", **world.parameters},
        "trainer": {
            **{"use": "ppo", "max_steps": 72, "num_envs": 2, "fragment_length": 12, "batch_size_per_gpu": 1},
            **{"batches_per_iteration": 2, "epochs_per_iteration": 2, "kl_divergence_coef_rho": 0.2},
            **{"use_normalized_vf": True, "vf_warmup": 1, **trainer},
        },
        "optimizer": {"learning_rate": 1e-3},
        "evaluation": {"episodes": 2},
        "log_freq": 1,
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = ["run", "config.yaml", "--plugin-file", str(HERE / "ppo_minecraft.py"), *options]
    line = [sys.executable, "-m", "mscore", *command]
    done = subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs" / world.name / "latest"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [False, True])
@every_policy
def test_a_config_trains_it(world, tmp_path, name, processes):
    pytest.importorskip(f"mscore_plugin_{name}")
    directory = run(tmp_path, world(name), env_processes=processes)
    rows = [row for row in csv.DictReader((directory / "metrics.csv").open()) if row["train/loss"]]
    assert len(rows) == 3
    assert float(rows[0]["train/ppo/reference_kl"]) < 1e-3  # what the iteration's own steps make of it
    assert {row["train/ppo/skipped_updates"] for row in rows} == {"0.0"}
    report = json.loads((directory / "report.json").read_text())
    assert [one["step"] for one in report["evaluations"]] == [0, 72]
    assert report["evaluations"][-1]["success_rate"] is not None
    before = mscore.load_policy(directory)
    assert all(torch.isfinite(one).all() for one in before.parameters())

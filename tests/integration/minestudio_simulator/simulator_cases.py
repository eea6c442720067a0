"""The environment ``minestudio`` with MineStudio's own simulator, above a stand-in for the engine.

pytest runs this in an environment that has the package; ``tests/integration/test_minestudio_simulator.py`` makes it.
"""

import pickle

import engine
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from minestudio.utils.vpt_lib.actions import Buttons
from mscore_plugin_minestudio import MineStudioEnvironment
from mscore_plugin_ppo import PPOTrainer
from mscore_plugin_vpt import VPTPolicy

from mscore import MscoreError, describe_space, is_minecraft, minecraft_action_space

NOTHING = {"buttons": np.array([0]), "camera": np.array([60])}
LOGS = {"event": "mine_block", "identity": "wood", "objects": ["oak_log"], "reward": 1.0, "max_reward_times": 3}
SMALL = {"num_empty_frames": 2, "obs_size": (64, 48)}


@pytest.fixture(autouse=True)
def _engine(tmp_path, monkeypatch):
    monkeypatch.setenv("MINESTUDIO_DIR", str(tmp_path))
    engine.put_in_place(tmp_path)


def made(**arguments):
    return MineStudioEnvironment(**{**SMALL, **arguments}).make()


def attack(env):
    """The action of the attack button alone."""
    held = {key: np.zeros(1, dtype=np.int64) for key in Buttons.ALL} | {"attack": np.ones(1, dtype=np.int64)}
    action = env.unwrapped.sim.env_action_to_agent_action({**held, "camera": np.zeros((1, 2))})
    return {key: np.asarray(value).reshape(1) for key, value in action.items()}


def test_gymnasiums_checker_finds_nothing():
    check_env(made(), skip_render_check=True)


def test_pictures_have_the_size_that_was_asked_for_and_films_the_games():
    env = MineStudioEnvironment(**SMALL).make(render_mode="rgb_array")
    observation, info = env.reset(seed=0)
    assert observation.keys() == {"image"}
    assert observation["image"].shape == (48, 64, 3)
    assert observation in env.observation_space
    assert env.render().shape == (360, 640, 3)
    assert "pov" not in info
    assert env.unwrapped.spec.nondeterministic


def test_actions_are_vpts():
    env = made()
    assert is_minecraft(env.action_space)
    assert describe_space(env.action_space) == describe_space(minecraft_action_space())
    env.reset(seed=0)
    action = attack(env)
    kept = {key: value.copy() for key, value in action.items()}
    env.step(action)
    taken = env.unwrapped.sim.env.taken[-1]
    assert [key for key, value in taken.items() if np.any(value)] == ["attack"]
    assert all(np.array_equal(action[key], kept[key]) for key in kept)
    assert action.keys() == kept.keys()


def test_actions_may_be_the_games_own():
    env = made(action_type="env")
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    env.step(action)
    taken = env.unwrapped.sim.env.taken[-1]
    assert taken.keys() == action.keys()
    np.testing.assert_array_equal(taken["camera"], action["camera"])


def test_a_finer_camera_has_as_many_bins_as_the_simulator_takes():
    env = made(camera_config={"camera_binsize": 1})
    assert env.action_space["camera"].nvec.tolist() == [441]
    env.reset(seed=0)
    env.step({"buttons": np.array([0]), "camera": np.array([440])})


def test_callbacks_act_in_their_order_and_are_each_environments_own():
    callbacks = {"MaskActionsCallback": {"inventory": 0, "jump": 1}, "RewardsCallback": {"reward_cfg": [LOGS]}}
    factory = MineStudioEnvironment(**SMALL, callbacks=callbacks, success_return=3.0)
    env, other = factory.make(), factory.make()
    env.reset(seed=0)
    other.reset(seed=0)
    rewards = [env.step(attack(env))[1] for _ in range(5)]
    assert rewards == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert other.step(attack(other))[1] == 1.0
    assert env.unwrapped.sim.env.taken[-1]["jump"] == 1
    assert factory.success(sum(rewards), False, {}) is True
    assert factory.success(2.0, False, {}) is False
    assert MineStudioEnvironment().success(2.0, False, {}) is None


def test_a_task_gives_its_commands_and_says_what_it_is():
    env = made(task="collect_wood")
    _, info = env.reset(seed=0)
    assert info["task"] == {"name": "collect_wood", "text": "Collect wood from trees in your surroundings."}
    chat = [action["chat"] for action in env.unwrapped.sim.env.taken if action.get("chat")]
    assert chat[0] == "/give @s minecraft:wooden_axe"


def test_every_episode_has_a_world_of_its_own_unless_one_is_named():
    env = made()
    worlds = env.unwrapped.sim.env.worlds
    for seed in (1, 2, 1, None):
        env.reset(seed=seed)
    assert worlds[0] == worlds[2] != worlds[1]
    assert None not in worlds
    env = made(seed=7)
    for seed in (1, 2):
        env.reset(seed=seed)
    assert env.unwrapped.sim.env.worlds == [7, 7]


def test_a_death_is_an_end_and_a_time_limit_is_not(monkeypatch):
    monkeypatch.setattr(engine.Engine, "death", 5)  # two frames are skipped
    env = made()
    env.reset(seed=0)
    ends = [env.step(dict(NOTHING))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (True, False)]
    env.reset()
    assert env.step(dict(NOTHING))[2:4] == (False, False)
    env = made(max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step(dict(NOTHING))[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_an_engine_that_is_lost_is_an_exception_and_not_an_end(monkeypatch):
    monkeypatch.setattr(engine.Engine, "lost", 3)
    env = made()
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="engine does not answer: Connection timed out"):
        env.step(dict(NOTHING))


def test_nothing_of_an_episode_is_told_in_the_next_and_the_info_can_be_sent():
    env = made()
    env.reset(seed=0)
    *_, info = env.step(attack(env))
    assert info["mine_block"] == {"oak_log": 1}
    assert pickle.loads(pickle.dumps(info))["inventory"] == {0: {"type": "oak_log", "quantity": 1}}
    _, info = env.reset()
    assert "oak_log" not in str(info["inventory"])


def test_nothing_is_printed(capfd):
    env = made(callbacks={"SpeedTestCallback": {"interval": 1}})
    env.reset(seed=0)
    env.step(dict(NOTHING))
    assert capfd.readouterr().out == ""


def test_closing_ends_the_engine():
    env = made()
    env.close()
    assert not env.unwrapped.sim.env.is_open


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"task": "collect_wod"}, "no simple task 'collect_wod'. Did you mean 'collect_wood'"),
        ({"callbacks": {"RewardCallback": {}}}, "no callback 'RewardCallback'. Did you mean 'RewardsCallback'"),
        ({"callbacks": {"RewardsCallback": {"rewards": []}}}, r"callbacks.RewardsCallback: .*takes \(reward_cfg\)"),
        ({"camera_config": {"camera_binsise": 1}}, "camera_config: .*camera_binsise.*takes .camera_binsize"),
        ({"camera_config": {"camera_quantization_scheme": "log"}}, "must be 'mu_law' or 'linear'"),
        ({"callbacks": {"JudgeResetCallback": {}}}, "use `max_episode_steps`"),
        ({"callbacks": {"PlayCallback": {}}}, "opens a window"),
    ],
)
def test_what_the_package_does_not_have_is_named(arguments, text):
    with pytest.raises(MscoreError, match=text):
        made(**arguments)


def test_an_engine_that_is_not_there_is_no_question(monkeypatch, tmp_path):
    monkeypatch.setenv("MINESTUDIO_DIR", str(tmp_path / "empty"))
    with pytest.raises(MscoreError, match=r"mcprec-6.13.jar; python -m minestudio.simulator.entry -y loads it"):
        made()


def policy():
    torch.manual_seed(0)
    kwargs = {"attention_heads": 2, "attention_memory_size": 16, "timesteps": 8, "hidsize": 16, "impala_width": 0.25}
    more = {"img_shape": [48, 64, 3], "n_recurrence_layers": 1, "pointwise_ratio": 2}
    return VPTPolicy({**kwargs, **more}, action_space=minecraft_action_space())


@pytest.mark.parametrize("processes", [False, True])
def test_vpt_trains_in_it_by_ppo(processes, monkeypatch):
    monkeypatch.setattr(engine.Engine, "death", 20)
    callbacks = {"RewardsCallback": {"reward_cfg": [LOGS]}}
    environment = engine.StandIn(**SMALL, callbacks=callbacks, max_episode_steps=12, success_return=1.0)
    trainer = PPOTrainer(
        None,
        policy,
        environment,
        num_envs=2,
        fragment_length=16,
        batch_size_per_gpu=1,
        batches_per_iteration=2,
        num_iterations=2,
        kl_divergence_coef_rho=0.1,
        learning_rate=1e-4,
        env_processes=processes,
    )
    metrics = trainer.fit()
    assert trainer.env_steps == 64
    assert np.isfinite(metrics["train/loss"])
    assert {"rollout/return", "rollout/success", "rollout/length"} <= set(metrics)
    assert isinstance(environment.make(), gymnasium.Env)

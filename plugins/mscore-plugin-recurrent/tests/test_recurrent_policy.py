"""The recurrent policy: every kind of space, memory, text, dtypes."""

import copy
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from mscore_plugin_recurrent import RecurrentPolicy

from mscore import MscoreError
from mscore.heads.spaces import batch_observation, describe_space, restore_space, to_environment

GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
TEXT = spaces.Text(50)
MINIGRID = spaces.Dict({"image": GRID, "direction": spaces.Discrete(4), "mission": TEXT})

OBSERVATIONS = {
    "minigrid": MINIGRID,
    "picture": spaces.Box(0, 255, (64, 64, 3), np.uint8),
    "small picture": spaces.Box(0, 255, (20, 24, 1), np.uint8),
    "grey picture": spaces.Box(0, 255, (84, 84), np.uint8),
    "float picture": spaces.Box(0.0, 1.0, (32, 32, 3), np.float32),
    "large grid": spaces.Box(0, 10, (25, 25, 3), np.int64),
    "flat grid": spaces.Box(-1, 4, (3, 4), np.int32),
    "one cell": spaces.Box(0, 4, (1, 1, 2), np.uint8),
    "vector": spaces.Box(-np.inf, np.inf, (4,), np.float32),
    "bounded vector": spaces.Box(np.float32([-2, -np.inf]), np.float32([2, 1]), dtype=np.float32),
    "scalar": spaces.Box(0.0, 1.0, (), np.float32),
    "matrix": spaces.Box(-1.0, 1.0, (3, 5), np.float32),
    "bytes": spaces.Box(0, 255, (128,), np.uint8),
    "unbounded integers": spaces.Box(-(2**62), 2**62, (3, 3, 2), np.int64),
    "discrete": spaces.Discrete(5, start=-2),
    "multi-discrete": spaces.MultiDiscrete([3, 4, 5]),
    "multi-discrete grid": spaces.MultiDiscrete([[3, 4], [5, 2]]),
    "multi-binary": spaces.MultiBinary((2, 3)),
    "text": TEXT,
    "nested": spaces.Dict({
        "inner": spaces.Dict({"a.b": spaces.Discrete(3), "items": TEXT, "say": TEXT}),
        "pair": spaces.Tuple([spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.MultiBinary(3)]),
        "values": spaces.Box(0, 255, (40, 40, 3), np.uint8),
    }),
}  # fmt: skip

ACTIONS = {
    "discrete": spaces.Discrete(7),
    "multi-discrete": spaces.MultiDiscrete([3, 5]),
    "multi-binary": spaces.MultiBinary(4),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "dict": spaces.Dict({"move": spaces.Discrete(4), "look": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
    "minecraft": None,
}


def window(space, batch, steps, seed=0):
    """A window of samples of a space, with no episode starting in it."""
    space.seed(seed)
    frames = [batch_observation([space.sample() for _ in range(batch)], torch.device("cpu")) for _ in range(steps)]
    result = _join(frames)
    result["first"] = torch.zeros(batch, steps, dtype=torch.bool)
    return result


def _join(frames):
    if isinstance(frames[0], dict):
        return {key: _join([frame[key] for frame in frames]) for key in frames[0]}
    if isinstance(frames[0], tuple):
        return tuple(_join([frame[i] for frame in frames]) for i in range(len(frames[0])))
    if isinstance(frames[0], list):
        return [[frame[row][0] for frame in frames] for row in range(len(frames[0]))]
    return torch.cat(frames, 1)


def cut(value, start, stop):
    if isinstance(value, dict):
        return {key: cut(item, start, stop) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(cut(item, start, stop) for item in value)
    if isinstance(value, list):
        return [row[start:stop] for row in value]
    return value[:, start:stop]


def policy(observation_space, action_space=ACTIONS["discrete"], seed=0, **arguments):
    torch.manual_seed(seed)
    return RecurrentPolicy(
        **{"hiddim": 32, "channels": 16, **arguments},
        observation_space=observation_space,
        action_space=action_space,
    )


def assert_close(one, other):
    torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_observation_trains_and_acts(name):
    space = OBSERVATIONS[name]
    agent = policy(space)
    latents, state = agent(window(space, 3, 4), None)
    assert set(latents) == RecurrentPolicy.provides_latents
    assert latents["pi_logits"].shape == (3, 4, 7)
    assert latents["vpred"].shape == (3, 4, 1)
    assert state["memory"].shape == (3, 32)
    (latents["pi_logits"].square().mean() + latents["vpred"].mean()).backward()
    trained = [name for name, parameter in agent.named_parameters() if parameter.requires_grad]
    without = [name for name, parameter in agent.named_parameters() if parameter.grad is None]
    assert set(without).isdisjoint(trained)

    observation = space.sample()
    single = observation if isinstance(space, spaces.Dict) else {"image": observation}
    action, state = agent.get_action(_plain(single), None, deterministic=True, input_shape="*")
    assert to_environment(action, agent.action_space) in agent.action_space
    action, state = agent.get_action(_plain(single), state, input_shape="*")
    assert state["memory"].shape == (32,)


def _plain(value):
    """A Tuple space's samples as tensors with leading (B, T): `get_action` gives nests of dicts only."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(torch.as_tensor(item)[None, None] for item in value)
    return value


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_space_described_and_restored_makes_the_same_policy(name):
    space = OBSERVATIONS[name]
    one, other = policy(space).state_dict(), policy(restore_space(describe_space(space))).state_dict()
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in other.items()}


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_space(name):
    agent = policy(MINIGRID, ACTIONS[name])
    latents, _ = agent(window(MINIGRID, 2, 3), None)
    action = agent.pi_head.sample(latents["pi_logits"])
    assert agent.pi_head.logprob(action, latents["pi_logits"]).shape == (2, 3)
    action, _ = agent.get_action(MINIGRID.sample(), None, input_shape="*")
    assert to_environment(action, agent.action_space) in agent.action_space


@pytest.mark.parametrize("name", ["minigrid", "vector", "nested"])
@pytest.mark.parametrize("starts", [[], [(0, 0)], [(0, 3), (1, 1), (1, 5), (2, 0)], [(0, 5), (1, 5), (2, 5)]])
def test_steps_windows_and_halves_are_the_same(name, starts):
    space, batch, steps = OBSERVATIONS[name], 3, 6
    agent = policy(space).eval()
    whole = window(space, batch, steps)
    for row, step in starts:
        whole["first"][row, step] = True
    state = {"memory": torch.randn(batch, 32)}
    expected, last = agent(whole, state)
    for size in (1, 2, 3):
        memory, parts = state, []
        for start in range(0, steps, size):
            latents, memory = agent(cut(whole, start, start + size), memory)
            parts.append(latents)
        assert_close(memory, last)
        for key in expected:
            assert_close(torch.cat([part[key] for part in parts], 1), expected[key])


def test_what_lies_before_a_start_is_forgotten():
    agent = policy(MINIGRID).eval()
    whole = window(MINIGRID, 2, 6)
    whole["first"][:, 3] = True
    for before in (None, {"memory": torch.randn(2, 32)}):
        latents, state = agent(whole, before)
        fresh, fresh_state = agent(cut(whole, 3, 6), agent.initial_state(2))
        assert_close(latents["pi_logits"][:, 3:], fresh["pi_logits"])
        assert_close(state, fresh_state)
    poisoned = {"memory": torch.full((2, 32), 1e30)}
    assert torch.isfinite(agent(cut(whole, 3, 6), poisoned)[0]["vpred"]).all()


def test_gradients_do_not_cross_a_start():
    agent = policy(MINIGRID)
    whole = window(MINIGRID, 1, 4)
    whole["first"][0, 2] = True
    state = {"memory": torch.zeros(1, 32, requires_grad=True)}
    latents, _ = agent(whole, state)
    latents["pi_logits"][:, 2:].square().sum().backward()
    assert state["memory"].grad.abs().max() == 0


def test_the_initial_state_is_zeros_with_or_without_rows():
    agent = policy(MINIGRID)
    assert agent.initial_state()["memory"].shape == (32,)
    assert agent.initial_state(5)["memory"].shape == (5, 32)
    frames = window(MINIGRID, 2, 3)
    assert_close(agent(frames, None), agent(frames, agent.initial_state(2)))
    del frames["first"]
    assert_close(agent(frames, None), agent(frames, agent.initial_state(2)))


def test_rows_do_not_depend_on_each_other():
    agent = policy(MINIGRID).eval()
    both = window(MINIGRID, 2, 4)
    both["first"][0, 2] = True
    latents, _ = agent(both, None)
    for row in range(2):
        alone = {key: value[row : row + 1] for key, value in both.items()}
        assert_close(agent(alone, None)[0]["pi_logits"], latents["pi_logits"][row : row + 1])


def test_text_matters_and_padding_of_other_rows_does_not():
    agent = policy(MINIGRID).eval()
    frames = window(MINIGRID, 3, 2)
    frames = {
        key: value[:1].expand(3, *value.shape[1:]) if key != "mission" else value for key, value in frames.items()
    }
    frames["mission"] = [["go to the red ball"] * 2, ["go to the red box"] * 2, ["", "go to the red ball"]]
    logits = agent(frames, None)[0]["pi_logits"]
    assert not torch.allclose(logits[0], logits[1])
    alone = {key: value[:1] for key, value in frames.items()}
    assert_close(agent(alone, None)[0]["pi_logits"], logits[:1])


def test_words_are_hashed_the_same_in_every_process():
    from mscore_plugin_recurrent.text import ROWS, word_rows

    code = "from mscore_plugin_recurrent.text import word_rows; print(word_rows('Pick up the blue key, now'))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == str(word_rows("pick up  the blue key , NOW"))
    vocabulary = [f"word{i}" for i in range(3000)]
    assert len({word_rows(word) for word in vocabulary}) > 0.998 * len(vocabulary)
    assert all(0 < row < ROWS for word in vocabulary for row in word_rows(word)[0])


def test_symbols_are_embedded_and_pixels_scaled():
    from mscore_plugin_recurrent.encoders import kind_of

    kinds = {name: kind_of(space) for name, space in OBSERVATIONS.items() if not isinstance(space, spaces.Dict)}
    assert {name for name, kind in kinds.items() if kind == "grid"} == {"large grid", "flat grid", "one cell"}
    assert {name for name, kind in kinds.items() if kind == "picture"} == {
        "picture", "small picture", "grey picture", "float picture",
    }  # fmt: skip
    assert kind_of(GRID) == "grid"
    assert kind_of(GRID, grid_values=0) == "picture"
    assert kind_of(OBSERVATIONS["picture"], grid_values=12) == "grid"
    assert policy(GRID, grid_values=12).encoders["image"].input.table.weight.shape[0] == 36


def test_two_symbols_of_neighbouring_numbers_are_unrelated_inputs():
    agent = policy(GRID)
    table = agent.encoders["image"].input.table.weight
    assert table.shape[0] == 3 * 256
    frames = {"image": torch.zeros(1, 1, 7, 7, 3, dtype=torch.uint8)}
    agent(frames, None)[0]["pi_logits"].square().sum().backward()
    assert sorted(table.grad.abs().sum(1).nonzero().flatten().tolist()) == [0, 256, 512]


def test_an_observation_that_is_missing_is_named():
    agent = policy(OBSERVATIONS["nested"])
    frames = window(OBSERVATIONS["nested"], 1, 1)
    del frames["inner"]["a.b"]
    with pytest.raises(MscoreError, match=r"'inner\.a\.b'"):
        agent(frames, None)


def test_a_space_that_nobody_can_see_is_refused():
    with pytest.raises(MscoreError, match="Graph"):
        policy(spaces.Graph(spaces.Discrete(2), None))
    with pytest.raises(MscoreError, match="nothing in it"):
        policy(spaces.Dict({}))


@pytest.mark.parametrize("name", ["minigrid", "picture", "vector"])
def test_bfloat16_autocast_and_weights(name):
    space = OBSERVATIONS[name]
    agent = policy(space)
    frames = window(space, 2, 5)
    exact, _ = agent(frames, None)
    with torch.autocast("cpu", torch.bfloat16):
        latents, state = agent(frames, None)
        latents, state = agent(frames, state)
        frames["first"][0, 2] = True
        latents, state = agent(frames, None)
        latents["pi_logits"].square().mean().backward()
    assert latents["pi_logits"].dtype == torch.float32
    assert state["memory"].dtype == torch.float32
    half = copy.deepcopy(agent).to(torch.bfloat16)
    for first in (False, True):
        frames["first"][0, 2] = first
        latents, state = half(frames, half.initial_state(2))
        assert state["memory"].dtype == torch.bfloat16
    frames["first"][0, 2] = False
    torch.testing.assert_close(half(frames, None)[0]["pi_logits"], exact["pi_logits"], atol=0.1, rtol=0.1)


def test_names_of_the_weights_stay():
    names = set(policy(MINIGRID).state_dict())
    assert {
        "encoders.image.input.table.weight",
        "encoders.image.convolutions.0.weight",
        "encoders.image.film.weight",
        "encoders.direction.table.weight",
        "encoders.mission.words.1.weight",
        "encoders.mission.gru.weight_hh_l0",
        "join.weight",
        "memory.gru.weight_ih_l0",
        "pi_head.linear_layer.weight",
        "value_head.linear.weight",
    } <= names


def test_it_compiles_or_says_nothing():
    agent = policy(OBSERVATIONS["vector"]).eval()
    frames = window(OBSERVATIONS["vector"], 2, 3)
    frames["first"][1, 1] = True
    expected, _ = agent(frames, None)
    compiled = torch.compile(agent, backend="eager")
    assert_close(compiled(frames, None)[0], expected)


def test_it_plays_a_gymnasium_environment():
    env = gymnasium.make("CartPole-v1")
    agent = policy(env.observation_space, env.action_space)
    observation, _ = env.reset(seed=0)
    state = None
    for _ in range(5):
        action, state = agent.get_action({"image": observation}, state, input_shape="*")
        observation, *_ = env.step(to_environment(action, env.action_space))

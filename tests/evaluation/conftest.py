"""A hand-written environment and small policies that the evaluation's tests share."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from mscore.contracts.environment import Environment
from mscore.contracts.policy import MinePolicy


class Corridor(gymnasium.Env[Any, Any]):
    """Walk to the end that the text names; the observation and the action have several parts.

    The observation's vector is float64, as many simulators' are. The episode's length limit and the
    goal come from the seed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}
    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-10.0, 10.0, (2,), np.float64),
            "memo": spaces.Text(10),
            "grid": spaces.MultiDiscrete([3, 3]),
        }
    )
    action_space = spaces.Dict(
        {"push": spaces.Box(-1.0, 1.0, (1,), np.float32), "buttons": spaces.MultiDiscrete([3, 2])}
    )
    made: list["Corridor"] = []

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.closed = False
        Corridor.made.append(self)

    def _observe(self) -> dict[str, Any]:
        return {
            "place": np.array([self.place, self.goal]),
            "memo": "right" if self.goal > 0 else "left",
            "grid": np.array([int(self.place > 0), self.steps % 3]),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.uniform(-0.5, 0.5)), 0
        self.goal = float(self.np_random.choice([-2.0, 2.0]))
        self.limit = int(self.np_random.integers(5, 25))
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        self.place += float(action["push"][0]) * 0.5 + 0.1 * float(action["buttons"][0] - 1)
        arrived = abs(self.place - self.goal) < 0.5
        done = arrived or abs(self.place) > 4
        return self._observe(), -abs(self.place - self.goal), done, self.steps >= self.limit, {"success": arrived}

    def render(self) -> Any:
        picture = np.zeros((15, 41, 3), np.uint8)
        picture[:, int(np.clip(20 + 4 * self.place, 0, 40))] = 255
        return picture

    def close(self) -> None:
        self.closed = True


class CorridorEnvironment(Environment):
    """Makes corridors."""

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        return Corridor(render_mode)


class TinyPolicy(MinePolicy):
    """Remembers what it saw: the action depends on the whole episode, so that mixed-up memory shows."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        super().__init__(16, action_space)
        space = observation_space
        self.keys = sorted(space.spaces) if isinstance(space, spaces.Dict) else ["image"]
        parts = space.spaces if isinstance(space, spaces.Dict) else {"image": space}
        size = sum(
            int(np.prod(part.shape)) if isinstance(part.shape, tuple) and part.shape else 1 for part in parts.values()
        )
        self.encode = nn.Linear(size, 16)
        self.dropout = nn.Dropout(0.5)
        self.cell = nn.GRUCell(16, 16)
        self.calls = 0

    def initial_state(self, batch_size: int | None = None) -> Any:
        shape = (16,) if batch_size is None else (batch_size, 16)
        return {"memory": [self.encode.weight.new_full(shape, 0.25)]}

    def forward(self, input: dict[str, Any], state_in: Any = None) -> Any:
        self.calls += 1
        rows, steps = input["first"].shape
        initial = self.initial_state(rows)["memory"][0]
        memory = initial if state_in is None else state_in["memory"][0]
        parts = []
        for key in self.keys:
            value = input[key]
            if isinstance(value, list):
                value = torch.tensor([[len(text) for text in row] for row in value], device=self.device)
            parts.append(value.reshape(rows, steps, -1).to(self.encode.weight.dtype))
        encoded = self.dropout(self.encode(torch.cat(parts, -1)))
        outputs = []
        for step in range(steps):
            memory = torch.where(input["first"][:, step, None], initial.to(memory.dtype), memory)
            memory = self.cell(encoded[:, step], memory)
            outputs.append(memory)
        latent = torch.stack(outputs, 1)
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, {"memory": [memory]}


@pytest.fixture(autouse=True)
def one_thread():
    """Training a few numbers on several threads takes a hundred times longer where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def corridor() -> CorridorEnvironment:
    Corridor.made.clear()
    return CorridorEnvironment()


@pytest.fixture
def walker() -> TinyPolicy:
    torch.manual_seed(3)
    return TinyPolicy(Corridor.observation_space, Corridor.action_space)


@pytest.fixture
def make_policy() -> type[TinyPolicy]:
    return TinyPolicy


@pytest.fixture
def corridors_made() -> list[Corridor]:
    return Corridor.made

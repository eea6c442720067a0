"""What stands in for Minecraft's engine, which cannot be loaded here: a server in Java, which MineStudio talks to.

Everything above it is MineStudio's own: the simulator, its callbacks, the translation of actions, MineRL's handlers
of observations, and MineRL's own fake of an engine, from which this one derives. It is a module of its own so that
environments' processes can import it.
"""

import os
from pathlib import Path

import numpy as np
from minestudio.simulator.entry import HumanSurvival
from minestudio.simulator.minerl.env._fake import _FakeSingleAgentEnv
from mscore_plugin_minestudio import MineStudioEnvironment
from mscore_plugin_minestudio.simulation.package import ENGINE

HEIGHT, WIDTH = 360, 640


class Engine(_FakeSingleAgentEnv):
    """A player in front of endless trees: every tick of attack is a log; ``death`` ends an episode."""

    death = None
    lost = None
    """Tick at which the connection breaks."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taken, self.worlds, self.ticks, self.logs, self.is_open = [], [], 0, 0, True

    def reset(self):
        self.worlds.append(self._seed)
        self.ticks, self.logs = 0, 0
        return super().reset()

    def step(self, single_agent_action):
        self.taken.append(single_agent_action)
        self.ticks += 1
        self.logs += int(single_agent_action["attack"])
        observation, reward, done, info = super().step(single_agent_action)
        if self.ticks == self.lost:
            return observation, 0, True, {"error": "Connection timed out!"}
        return observation, reward, done or self.ticks == self.death, info

    def close(self):
        self.is_open = False

    def _get_fake_malmo_data(self):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[:, : WIDTH // 2] = self.ticks % 256
        place = {"xpos": 0.0, "ypos": 64.0, "zpos": 0.0, "pitch": 0.0, "yaw": 0.0}
        held = [{"slot_id": 0, "type": "oak_log", "quantity": self.logs}] if self.logs else []
        mined = {"mine_block": {"oak_log": self.logs}}
        return {"pov": picture, "inventory": held, "equipped_items": {}, "isGuiOpen": False, **place, **mined}


def put_in_place(folder):
    """An engine for the simulator to find, and what answers in its stead."""
    (Path(folder) / ENGINE).parent.mkdir(parents=True, exist_ok=True)
    (Path(folder) / ENGINE).touch()
    os.environ["MINESTUDIO_DIR"] = str(folder)
    HumanSurvival._entry_point = lambda self, fake: f"{__name__}:Engine"


class StandIn(MineStudioEnvironment):
    """The environment, in whose processes the stand-in is put in place too."""

    def make(self, render_mode=None):
        put_in_place(os.environ["MINESTUDIO_DIR"])
        return super().make(render_mode)

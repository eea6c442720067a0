"""Acceptance: what a stranger does who has an empty folder and wheels, and nothing of this repository.

A plugin of each kind is made from the template, built, installed, checked, run by name and used in a bare Lightning
script; then one is broken in each way that authors break them, and the messages are read.
"""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SECONDS_TO_FIRST_STEP = 60
"""From `mscore plugins new` to the first training step on 2 cores, installation left out. Printed with ``-rP``."""

BARE = """
import lightning as L
from torch.utils.data import DataLoader
from mscore import MineLightning
from mscore.testing import TinyObjective, TinyPolicy, tiny_batch

batches = DataLoader([tiny_batch(start=4 * step, seed=step) for step in range(3)], batch_size=None)
trainer = L.Trainer(max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False,
                    enable_progress_bar=False, enable_model_summary=False)
"""

SCRIPTS = {
    "objective": """
from mscore_plugin_strange.objective import StrangeObjective
trainer.fit(MineLightning(TinyPolicy(), [StrangeObjective()]), batches)
""",
    "policy": """
from gymnasium import spaces
from mscore_plugin_strange.policy import StrangePolicy
policy = StrangePolicy(observation_space=spaces.Box(-9, 9, (4,)), action_space=spaces.Discrete(5))
trainer.fit(MineLightning(policy, [TinyObjective()]), batches)
""",
    "callback": """
from mscore_plugin_strange.callback import StrangeCallback
trainer.callbacks.append(StrangeCallback())
trainer.fit(MineLightning(TinyPolicy(), [TinyObjective()]), batches)
""",
    "datamodule": """
from mscore_plugin_strange.datamodule import StrangeDataModule
data = StrangeDataModule(episodes=8)
trainer.fit(MineLightning(TinyPolicy(data.action_space), [TinyObjective()]), datamodule=data)
""",
    "environment": """
from mscore_plugin_strange.demonstrations import Demonstrations
data = Demonstrations(episodes=8)
policy = TinyPolicy(data.action_space, observation_space=data.observation_space)
trainer.fit(MineLightning(policy, [TinyObjective()]), datamodule=data)
""",
}


@pytest.fixture
def stranger(fresh):
    return Stranger(fresh)


class Stranger:
    """Somebody with a fresh environment, who types commands."""

    def __init__(self, environment) -> None:
        self.environment = environment
        environment.install("mscore")
        self.package = environment.work / "mscore-plugin-strange"
        self.started = 0.0

    def make(self, kind: str) -> None:
        self.started = time.perf_counter()
        said = self.environment.mscore("plugins", "new", kind, "strange")
        assert self.package.is_dir(), said

    def install(self) -> None:
        """Build the package and install its wheel with what its tests need; the time does not count."""
        began = time.perf_counter()
        done = subprocess.run(
            [self.environment.python, "-m", "build", "--wheel", "--no-isolation", self.package],
            env=self.environment.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (wheel,) = (self.package / "dist").glob("*.whl")
        self.environment.install(f"{wheel}[test]")
        self.started += time.perf_counter() - began

    def train(self) -> Path:
        self.environment.mscore("run", "strange")
        return self.environment.work / "runs" / "strange" / "latest"

    def test(self) -> str:
        """Run the package's own tests, as its author does."""
        done = subprocess.run(
            [self.environment.python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=self.package,
            env=self.environment.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self) -> dict:
        plugins = json.loads(self.environment.mscore("plugins", "--json"))["plugins"]
        return {one["plugin"]: one for one in plugins}["strange"]

    def fail(self, *arguments: str) -> str:
        """What a command says that is a mistake."""
        done = subprocess.run(
            [self.environment.python.parent / "mscore", *arguments],
            cwd=self.environment.work,
            env=self.environment.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode in (1, 2), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["objective", "policy", "callback", "datamodule", "environment", "trainer"])
def test_a_plugin_of_each_kind_from_nothing(stranger, kind):
    stranger.make(kind)
    stranger.install()
    assert stranger.listed()["status"] == "ok"
    assert "strange" in stranger.listed()["components"][kind]

    directory = stranger.train()
    seconds = time.perf_counter() - stranger.started
    print(f"{kind}: {seconds:.1f} s from `mscore plugins new` to the end of a first run, installation left out")
    assert seconds < SECONDS_TO_FIRST_STEP
    record = json.loads((directory / "run.json").read_text())
    assert record["status"] == "finished"
    (used,) = [one for one in record["plugins"] if one["plugin"] == "strange"]
    assert used["used_for"]
    assert "train/loss" in (directory / "metrics.csv").read_text()

    checks = json.loads(stranger.environment.mscore("plugins", "check", "strange", "--json"))
    assert checks["failed"] == 0
    assert len(checks["checks"]) > 10
    assert "passed" in stranger.test()

    if kind == "trainer":  # it is not Lightning's; a script calls it through mscore
        stranger.environment.code("import mscore; print(mscore.run('strange', ['trainer.max_steps=2']).directory)")
    else:
        stranger.environment.code(BARE + SCRIPTS[kind] + "assert trainer.global_step == 3")


RETURN = '    return {\n        "strange": "mscore_plugin_strange.objective:StrangeObjective",\n    }\n'

BREAKS = {
    "misspelt hook": (
        ("def mscore_objectives(", "def mscore_objective("),
        "broken",
        "unknown hook 'mscore_objective'. Did you mean 'mscore_objectives'",
    ),
    "forgotten mark": (
        ("@hookimpl\ndef mscore_objectives", "def mscore_objectives"),
        "broken",
        "mscore_objectives is not decorated with @mscore.hookimpl",
    ),
    "extra argument": (
        ("def mscore_objectives()", "def mscore_objectives(config)"),
        "broken",
        "hook mscore_objectives has no argument 'config'; it takes none",
    ),
    "default value": (
        (RETURN, RETURN + "\n\n@hookimpl\ndef mscore_run_finished(run, error=None):\n    pass\n"),
        "broken",
        "argument 'error' of hook mscore_run_finished has a default value; remove it",
    ),
    "class for instance": (None, "broken", "names a class; name a module, or an instance of the class"),
    "missing library": (
        ("from mscore import hookimpl", "import nothere\nfrom mscore import hookimpl"),
        "broken",
        "ModuleNotFoundError: No module named 'nothere'",
    ),
    "newer API": (("MSCORE_API = 1", "MSCORE_API = 2"), "incompatible", "written for plugin API 2, .* upgrade mscore"),
    "missing module": (
        ("mscore_plugin_strange.objective:", "mscore_plugin_strange.objectives:"),
        "ok",
        "cannot be imported: there is no module 'mscore_plugin_strange.objectives' for its import string",
    ),
    "missing attribute": (
        (":StrangeObjective", ":StrangeObjektive"),
        "ok",
        "has no attribute 'StrangeObjektive'. Did you mean 'StrangeObjective'",
    ),
}

BODY = '        """Compute the terms that the class lists."""'


def test_every_mistake_of_an_author_is_answered(stranger):
    stranger.make("objective")
    stranger.install()
    module = stranger.environment.site / "mscore_plugin_strange" / "__init__.py"
    points = next(stranger.environment.site.glob("mscore_plugin_strange-*.dist-info/entry_points.txt"))
    right, entry = module.read_text(), points.read_text()
    for name, (change, status, expected) in BREAKS.items():
        if change is None:
            module.write_text(right + "\n\nclass Plugin:\n    pass\n")
            points.write_text(entry.replace("mscore_plugin_strange", "mscore_plugin_strange:Plugin"))
        else:
            assert change[0] in right, name
            module.write_text(right.replace(*change))
        listed = stranger.listed()
        assert listed["status"] == status, name
        if status != "ok":
            assert re.search(expected, listed["reason"]), f"{name}: {listed['reason']}"
        Path(stranger.environment.work / "config.yaml").write_text(
            "policy: recurrent\ndata: {use: minigrid, episodes: 8}\nobjectives: {strange: {}}\n"
        )
        said = stranger.fail("run", "config.yaml")
        assert re.search(expected, said), f"{name}: {said}"
        assert "mscore-plugin-strange 0.1.0" in said, name
        assert re.search(expected, stranger.fail("plugins", "check", "strange")), name
        module.write_text(right)
        points.write_text(entry)
    assert stranger.listed()["status"] == "ok"

    # What a plugin's code raises is said with the plugin, its version, and where.
    module.write_text(right + "\n\n@hookimpl\ndef mscore_run_started(run):\n    raise RuntimeError('no disk')\n")
    said = stranger.fail("run", "strange")
    assert "error: RuntimeError: no disk" in said
    assert "in hook mscore_run_started of plugin 'strange' (mscore-plugin-strange 0.1.0)" in said
    module.write_text(right)
    objective = module.parent / "objective.py"
    text = objective.read_text()
    assert BODY in text
    objective.write_text(text.replace(BODY, f"{BODY}\n        raise RuntimeError('no idea')"))
    said = stranger.fail("run", "strange")
    assert "error: RuntimeError: no idea" in said
    assert "in objective 'strange' of plugin 'strange' (mscore-plugin-strange 0.1.0): StrangeObjective.__call__" in said
    objective.write_text(text)

    stranger.train()

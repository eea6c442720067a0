"""What a trainer must do: honour what it says that it honours, and leave what others go on from."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mscore.config import check_parameters, load_config
from mscore.config.grammar import SECTIONS
from mscore.contracts.trainer import Trainer
from mscore.hookspecs import hookimpl
from mscore.plugins import CORE
from mscore.runs import load_policy
from mscore.runs.training import run_in
from mscore.testing.checks import CheckSkipped, Unusable, check, require
from mscore.testing.isolation import isolated_plugins
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny_fits import quiet

TRAINER = "trainer"
_KEYS = ("state_dict", "optimizer_states", "global_step", "hyper_parameters")
_PARTS = {
    "mscore_policies": {"check-policy": "mscore.testing.tiny:TinyPolicy"},
    "mscore_objectives": {"check-objective": "mscore.testing.tiny:TinyObjective"},
    "mscore_datamodules": {"check-data": "mscore.testing.tiny:TinyDataModule"},
    "mscore_environments": {"check-environment": "mscore.testing.tiny:TinyEnvironment"},
}


def _parts() -> ModuleType:
    """A plugin of the tiny parts."""
    module = ModuleType("mscore_testing_parts")
    for hook, registered in _PARTS.items():

        def implementation(registered: dict[str, str] = registered) -> dict[str, str]:
            return registered

        # Through a function without arguments: a hook takes those of its specification alone.
        setattr(module, hook, hookimpl(_named(hook, implementation)))
    return module


def _named(name: str, function: Any) -> Any:
    def hook() -> dict[str, str]:
        registered: dict[str, str] = function()
        return registered

    hook.__name__ = name
    return hook


def _parameters(subject: ComponentSubject) -> dict[str, Any]:
    """The sample's parameters, or else those by which it trains for a step or two."""
    given = dict(subject.sample.parameters)
    names = subject.schema.names
    if not given and "max_steps" in names:
        given = {"max_steps": 3}
    missing = [one.name for one in subject.schema.parameters if one.required and one.name not in given]
    if missing or not given:
        wanted = ", ".join(missing) or "how long it trains"
        raise CheckSkipped(f"a sample for trainer/{subject.component.name} must give {wanted}")
    if "accelerator" in names:
        given.setdefault("accelerator", "cpu")
    if "enable_progress_bar" in names:
        given.setdefault("enable_progress_bar", False)
    return given


def _trained(subject: ComponentSubject) -> Path:
    """The directory of a run that it trained.

    Raises:
        Unusable: it cannot train one.
    """
    directory = subject.folder / "run"
    if directory.exists():
        return directory
    directory.mkdir()
    honoured = set(subject.target.sections)
    config: dict[str, Any] = {
        "name": "check",
        "seed": 0,
        "policy": {"use": "check-policy"},
        "trainer": {"use": subject.component.qualified, **_parameters(subject)},
    }
    if "data" in honoured:
        config["data"] = {"use": "check-data"}
    else:
        config["environment"] = {"use": "check-environment"}
    if "objectives" in honoured:
        config["objectives"] = {"check-objective": {}}
    plugin = subject.component.plugin
    own = {} if plugin.name == CORE or plugin.module is None else {plugin.name: plugin.module}
    with isolated_plugins(_parts(), **own) as plugins:
        config["trainer"]["use"] = subject.component.name
        loaded = load_config(config, plugins=plugins)
        check_parameters(loaded, plugins)
        try:
            with quiet():
                run_in(directory, loaded)
        except Exception as error:
            text = " ".join(str(error).split())
            raise Unusable("trains", f"it raised {type(error).__name__}: {text}") from error
    return directory


@check(TRAINER, "declares", remedy="let `sections` name sections of a config (docs/config.md), and derive from Trainer")
def declares(subject: ComponentSubject) -> None:
    """It derives from `mscore.Trainer`, and the sections and parameters that it declares exist."""
    target = subject.target
    require(isinstance(target, type) and issubclass(target, Trainer), "it does not derive from mscore.Trainer")
    unknown = sorted(set(target.sections) - set(SECTIONS))
    require(not unknown, f"`sections` names {', '.join(unknown)}, and no config has them")
    known = set(subject.schema.names)
    for name in ("run_length", "placement", "rehearsal"):
        wrong = sorted(set(getattr(target, name) or ()) - known)
        require(subject.schema.accepts_anything or not wrong, f"`{name}` names no parameter of it: {', '.join(wrong)}")


@check(TRAINER, "trains", remedy="mend what the reason says; docs/contracts.md has what a trainer is given")
def trains(subject: ComponentSubject) -> None:
    """It trains a run of the tiny parts to its end."""
    _trained(subject)


@check(TRAINER, "checkpoint", remedy="write `run.checkpoints / 'last.ckpt'` at the end, as docs/contracts.md has it")
def checkpoint(subject: ComponentSubject) -> None:
    """It leaves `last.ckpt`, readable with `weights_only=True`, with what resuming and exporting need."""
    path = _trained(subject) / "checkpoints" / "last.ckpt"
    require(path.is_file(), "there is no checkpoints/last.ckpt")
    saved = torch.load(path, weights_only=True)
    lacking = [key for key in _KEYS if key not in saved]
    require(not lacking, f"last.ckpt lacks {', '.join(lacking)}")
    names = [name for name in saved["state_dict"] if name.startswith("mine_policy.")]
    require(names, "its state_dict has no name that begins with `mine_policy.`")
    require(saved["global_step"] > 0, "its global_step is 0")


@check(TRAINER, "policy", remedy="store `run.hyperparameters` as `hyper_parameters`: they say how the policy is built")
def policy(subject: ComponentSubject) -> None:
    """The trained policy can be loaded from the run's directory alone."""
    directory = _trained(subject)
    plugin = subject.component.plugin
    own = {} if plugin.name == CORE or plugin.module is None else {plugin.name: plugin.module}
    with isolated_plugins(_parts(), **own):
        load_policy(directory)

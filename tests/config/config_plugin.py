"""The light module of the plugin that the tests use."""

from mscore import hookimpl


@hookimpl
def mscore_policies():
    return {"walker": "config_parts:Walker", "hidden-walker": "config_parts:HiddenWalker"}


@hookimpl
def mscore_datamodules():
    return {"frames": "config_parts:Frames"}


@hookimpl
def mscore_objectives():
    return {
        "bc": "config_parts:Cloning",
        "kl": "config_parts:Divergence",
        "teacher": "config_parts:Teacher",
        "gone": "config_parts:NotThere",
        "raises": "config_parts:Raises",
    }


@hookimpl
def mscore_callbacks():
    return {"ema": "config_parts:Average", "forward": "config_parts:Forwarding", "free": "config_parts:Free"}


@hookimpl
def mscore_environments():
    return {"maze": "config_parts:Maze", "plain-maze": "config_parts:make_maze"}


@hookimpl
def mscore_optimizers():
    return {"plain": "config_parts:PlainOptimizer", "factory": "config_parts:optimizer_factory"}


@hookimpl
def mscore_schedulers():
    return {"flat": "config_parts:FlatSchedule"}


@hookimpl
def mscore_trainers():
    return {
        "simple": "config_parts:SimpleTrainer",
        "online": "config_parts:OnlineTrainer",
        "deaf": "config_parts:DeafTrainer",
    }


@hookimpl
def mscore_loggers():
    return {"notes": "config_parts:Notes"}

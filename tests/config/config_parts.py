"""Components without torch: what their constructors take is what the tests are about."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, MinLen

from mscore.contracts.environment import Environment

if TYPE_CHECKING:
    from nowhere import Unknown


class Recorder:
    """Keeps what it was built with."""

    def keep(self, values):
        self.given = {key: value for key, value in values.items() if key not in ("self", "__class__")}


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Walker(Recorder):
    """A policy.

    Args:
        hiddim: width of the latent,
            in channels.
        sizes (tuple): layer widths.
        observation_space: what it sees.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        hiddim: Annotated[int, Ge(1)] = 64,
        sizes: tuple[int, ...] = (),
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        weights: Path | None = None,
        color: Color = Color.RED,
        mode: Literal["slow", "fast"] = "slow",
        flag: bool = False,
        title: str = "",
        limit: float | int = 1.0,
        timeout: timedelta | None = None,
        table: dict[str, list[int]] | None = None,
        items: Iterable[int] = (),
        names: Annotated[list[str], MinLen(1)] = ["a"],  # noqa: B006
        strange: "Unknown" = None,
        *,
        observation_space: Any,
        action_space: Any = None,
    ):
        self.keep(locals())


class HiddenWalker(Recorder):
    """A policy with a parameter that no YAML can hold."""

    mscore_hidden_parameters = frozenset({"secret"})

    def __init__(self, act: Callable[[int], int] | None = None, maze: Color | int = 0, secret: int = 0):
        self.keep(locals())


@dataclass
class Frames:
    win_len: Annotated[int, Gt(0)]
    batch_size: int = 8
    dataset_dirs: tuple[Path, ...] = ()
    environment: Environment | None = None


class Cloning(Recorder):
    """Cloning.

    Args:
        weight: factor of the loss.
        reduction: how frames are put together.
    """

    def __init__(self, weight: Annotated[float, Ge(0)] = 1.0, reduction: Literal["sum", "mean"] = "sum"):
        self.keep(locals())


class Divergence(Cloning):
    needs_latents = frozenset({"posterior_dist", "pi_logits"})


class Teacher(Recorder):
    def __init__(self, environment: Environment, more: list[Environment | None] = (), named: Environment | str = ""):
        self.keep(locals())


class Raises:
    def __init__(self, decay: float = 2.0):
        raise ValueError(f"decay is {decay}\nbut lies in [0, 1]")


class Average(Recorder):
    def __init__(self, decay: float, every_n_steps: int = 1):
        self.keep(locals())


class Parent(Recorder):
    """Parent.

    Args:
        monitor: what is watched.
    """

    def __init__(self, monitor: str, patience: int = 3):
        self.keep(locals())


class Forwarding(Parent):
    def __init__(self, extra: int = 0, **kwargs):
        super().__init__(**{"monitor": "loss", **kwargs})
        self.given["extra"] = extra


class Free(Recorder):
    def __init__(self, known: int = 0, **kwargs):
        self.keep({"known": known, **kwargs})


class Maze(Environment):
    def __init__(self, size: int = 3):
        self.size = size

    def make(self, render_mode=None):
        return "maze"


def make_maze(size: int = 3, render_mode: str | None = None):
    return (size, render_mode)


class PlainOptimizer(Recorder):
    def __init__(self, parameters, /, learning_rate: float = 1e-3):
        self.keep(locals())


def optimizer_factory(params, **kwargs):
    return PlainOptimizer(params, **kwargs)


optimizer_factory.mscore_kwargs_of = "config_parts:PlainOptimizer"


class FlatSchedule(Recorder):
    def __init__(self, optimizer, steps: int = 1):
        self.keep(locals())


class SimpleTrainer(Recorder):
    def __init__(self, max_steps: int = 1):
        self.keep(locals())


class OnlineTrainer(SimpleTrainer):
    sections = frozenset({"callbacks"})
    honours_callbacks = True


class DeafTrainer(SimpleTrainer):
    sections = frozenset({"data", "objectives", "callbacks", "optimizer", "scheduler"})
    honours_callbacks = False


class Notes:
    pass

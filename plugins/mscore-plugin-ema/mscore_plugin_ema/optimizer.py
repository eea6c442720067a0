"""An optimizer that averages the weights which it trains."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mscore_plugin_ema.swap import BufferSlot, Exchange, swap_tensors
from mscore_plugin_ema.update import OffloadedUpdate, ema_update, run_ema_update_cpu

__all__ = ["EMAOptimizer", "ema_update", "run_ema_update_cpu"]

_HALF = (torch.bfloat16, torch.float16)


class EMAOptimizer(Optimizer):
    """Wraps an optimizer and keeps an exponential moving average of its parameters.

    After an optimizer step, ``average = decay * average + (1 - decay) * weight``. The average starts as a
    copy of the weights before the first step. Averages of bfloat16 and float16 weights are float32, since
    the small steps of an average would be rounded away. Everything that is not defined here is the wrapped
    optimizer's; learning-rate schedulers may hold either of the two.

    A gradient scaler sees an optimizer that leaves unscaling to it, also when the wrapped one is fused: a
    step that the scaler skips because of infinite gradients then never reaches the average.

    Args:
        optimizer: the optimizer that trains.
        device: where the averages live; the CPU for weights elsewhere means that a thread updates them.
        decay: share of the old average that is kept at each update.
        every_n_steps: optimizer steps from one update to the next. The first step is always followed by one.
        current_step: optimizer steps taken before.

    Attributes:
        ema_params: the averages, in the order of :meth:`all_parameters`; empty until the first step.
        updates: how often they have been updated.
        save_original_optimizer_state: if True, :meth:`state_dict` is the wrapped optimizer's.
    """

    # Fused optimizers claim this, and a scaler would then hand them steps that may turn out to be skipped.
    _step_supports_amp_scaling = False

    def __init__(
        self,
        optimizer: Optimizer,
        device: torch.device,
        decay: float = 0.9999,
        every_n_steps: int = 1,
        current_step: int = 0,
    ) -> None:
        # The base class is not initialised: its state is the wrapped optimizer's, reached by __getattr__.
        self.optimizer = optimizer
        self.device = torch.device(device)
        self.decay = decay
        self.every_n_steps = every_n_steps
        self.current_step = current_step
        self.updates = 0
        self.ema_params: tuple[Tensor, ...] = ()
        self.ema_buffers: tuple[Tensor, ...] = ()
        self.rebuild_ema_params = True
        self.save_original_optimizer_state = False
        self.in_saving_ema_model_context = False
        self._parameters: list[Tensor] = []
        self._buffers: list[BufferSlot] = []
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []
        self._offload: OffloadedUpdate | None = None
        self._known: Mapping[int, Tensor] = {}
        self._exchange: Exchange | None = None

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The wrapped optimizer's groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups
        self.rebuild_ema_params = True

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer":  # not there yet while unpickling: asking again would never end
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __repr__(self) -> str:
        return f"EMAOptimizer(decay={self.decay}, every_n_steps={self.every_n_steps}, {self.optimizer!r})"

    def all_parameters(self) -> Iterable[Tensor]:
        """The parameters that the optimizer trains, group by group."""
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train one more group; its averages start from its weights at the next step."""
        self.optimizer.add_param_group(param_group)
        self.rebuild_ema_params = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the wrapped optimizer does."""
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None, grad_scaler: Any = None, **kwargs: Any) -> Any:
        """Take an optimizer step, then update the average if it is time.

        Args:
            closure: evaluates the model again and returns the loss.
            grad_scaler: a gradient scaler that takes this step, or skips it with the update.
            **kwargs: passed to the wrapped optimizer.

        Returns:
            What the wrapped optimizer returns: the closure's loss, or None.

        Raises:
            RuntimeError: if the averaged weights are in the model's place.
        """
        if grad_scaler is not None:
            return grad_scaler.step(self, **({} if closure is None else {"closure": closure}), **kwargs)
        if self._exchange is not None:
            raise RuntimeError("the averaged weights are in place: swap the trained weights back before a step")
        self.start()
        if self._offload is not None:
            self._offload.before_weights_change()
        loss = self.optimizer.step(closure, **kwargs)
        if self.current_step % self.every_n_steps == 0:
            self.update()
        self.current_step += 1
        return loss

    def start(self) -> None:
        """Start the averages of what has none yet, from the weights as they are; steps do so by themselves."""
        if self.rebuild_ema_params:
            self._build()
        if self._known:
            self._known = {}

    def update(self) -> None:
        """Move the averages towards the current weights, now."""
        self.start()
        buffers = self._live_buffers() if self._buffers else []
        if self._offload is not None:
            self._offload.start(self._parameters, buffers, self.decay)
        else:
            for averages, weights in self._groups:
                ema_update(averages, weights, self.decay)
            if buffers:
                ema_update(self.ema_buffers, buffers, self.decay)
        self.updates += 1

    def join(self) -> None:
        """Wait for an update that a thread is doing; its exception, if any, is raised here."""
        if self._offload is not None:
            self._offload.join()

    def track(self, buffers: Sequence[BufferSlot], averages: Mapping[int, Tensor] | None = None) -> None:
        """Average buffers together with the parameters, and go on from averages that exist already.

        Args:
            buffers: the buffers.
            averages: averages by the ``id`` of the live tensor, taken over now, and for groups that are added
                before :meth:`start`; what is not named starts from its own weights. None leaves all to ``start``.
        """
        self._buffers, self.ema_buffers = list(buffers), ()
        self.rebuild_ema_params = True
        if averages is not None:
            self._known = averages
            self._build()

    def averages(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of a live tensor and its average, of parameters and buffers; empty before the first step."""
        self.join()
        yield from zip(self._parameters, self.ema_params, strict=True)
        yield from ((slot.tensor, average) for slot, average in self._tracked_buffers())

    @property
    def is_swapped(self) -> bool:
        """True while the averaged weights are in the model."""
        return self._exchange is not None

    def trained(self) -> dict[int, Tensor]:
        """The trained weights that are set aside while averaged ones are in place, by ``id`` of the live tensor."""
        return {} if self._exchange is None else self._exchange.trained()

    def swap_tensors(self, tensor1: Tensor, tensor2: Tensor) -> None:
        """Exchange the data of two tensors in place, without copying."""
        swap_tensors(tensor1, tensor2)

    def switch_main_parameter_weights(self, saving_ema_model: bool = False) -> None:
        """Put the averaged weights into the model, or, when they are there, the trained ones back.

        The averages themselves (:attr:`ema_params`, :meth:`state_dict`) are the same in both cases.

        Args:
            saving_ema_model: recorded as ``in_saving_ema_model_context``: the weights are in place to be saved.
        """
        self.in_saving_ema_model_context = saving_ema_model
        if self.is_swapped:
            self.restore_main_parameter_weights()
            return
        self.join()
        self._exchange = Exchange(zip(self._parameters, self.ema_params, strict=True), self._tracked_buffers())

    def restore_main_parameter_weights(self) -> None:
        """Put the trained weights back, if the averaged ones are in the model."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.undo()

    @contextmanager
    def swap_ema_weights(self, enabled: bool = True) -> Iterator[None]:
        """Have the averaged weights in the model inside the context; entered again inside, it does nothing.

        Args:
            enabled: if False, nothing is swapped.
        """
        if not enabled or self.is_swapped:
            yield
            return
        self.switch_main_parameter_weights()
        try:
            yield
        finally:
            self.restore_main_parameter_weights()

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state (``opt``), the averages (``ema``), the counter and the settings.

        The wrapped optimizer's state alone if :attr:`save_original_optimizer_state` is set.
        """
        if self.save_original_optimizer_state:
            return self.optimizer.state_dict()
        self.join()
        return {
            "opt": self.optimizer.state_dict(),
            "ema": list(self.ema_params),
            "current_step": self.current_step,
            "decay": self.decay,
            "every_n_steps": self.every_n_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, or a plain optimizer's state, which leaves the averages alone.

        Raises:
            ValueError: if number or shapes of the averages are not those of the parameters.
        """
        if "opt" not in state_dict:
            self.optimizer.load_state_dict(state_dict)
            return
        parameters = list(self.all_parameters())
        averages = state_dict["ema"]
        _check_shapes(parameters, averages)
        self.optimizer.load_state_dict(state_dict["opt"])
        self._known = {id(p): average for p, average in zip(parameters, averages, strict=False)}
        self._build()
        self.current_step = state_dict["current_step"]
        self.decay = state_dict["decay"]
        self.every_n_steps = state_dict["every_n_steps"]
        self.updates = -(-self.current_step // self.every_n_steps)

    def _build(self) -> None:
        """Make the lists that a step works on; averages that are known or kept go on, the others start."""
        self.join()
        kept = {id(p): average for p, average in zip(self._parameters, self.ema_params, strict=False)}
        self._parameters = list(self.all_parameters())
        buffers = [slot.tensor for slot in self._buffers]
        old_buffers = [*self.ema_buffers, *[None] * (len(buffers) - len(self.ema_buffers))]
        self.ema_params = tuple(self._average_of(p, kept.get(id(p))) for p in self._parameters)
        self.ema_buffers = tuple(
            self._average_of(buffer, old) for buffer, old in zip(buffers, old_buffers, strict=True)
        )
        groups: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor]]] = {}
        for average, weight in zip(self.ema_params, self._parameters, strict=True):
            group = groups.setdefault((weight.device, weight.dtype, average.dtype), ([], []))
            group[0].append(average)
            group[1].append(weight)
        self._groups = list(groups.values())
        self._offload = self._make_offload()
        self.rebuild_ema_params = False

    def _make_offload(self) -> OffloadedUpdate | None:
        if self.device.type != "cpu":
            return None
        elsewhere = next((p.device for p in self._parameters if p.device != self.device), None)
        if elsewhere is None:
            return None
        return OffloadedUpdate([*self.ema_params, *self.ema_buffers], len(self._parameters), elsewhere)

    def _average_of(self, live: Tensor, kept: Tensor | None) -> Tensor:
        source = self._known.get(id(live))
        if source is None:
            if kept is not None and kept.shape == live.shape:
                return kept
            source = live
        dtype = torch.float32 if live.dtype in _HALF else live.dtype
        device = self.device if self.device.type == "cpu" else live.device
        # Strides are kept as well: an average laid out like its weight is what makes the update one fast pass.
        return torch.empty_like(live, dtype=dtype, device=device, requires_grad=False).copy_(source.detach())

    def _tracked_buffers(self) -> Iterator[tuple[BufferSlot, Tensor]]:
        # Before the first step there are no averages yet.
        return zip(self._buffers, self.ema_buffers, strict=bool(self.ema_buffers))

    def _live_buffers(self) -> list[Tensor]:
        live = [slot.tensor for slot in self._buffers]
        for buffer, average in zip(live, self.ema_buffers, strict=True):
            if buffer.shape != average.shape:  # a module resized it: the average of the old size means nothing
                self._build()
                break
        return live


def _check_shapes(parameters: Sequence[Tensor], averages: Sequence[Tensor]) -> None:
    if averages and len(averages) != len(parameters):
        raise ValueError(
            f"the state holds {len(averages)} averaged tensors, the optimizer {len(parameters)} parameters"
        )
    for index, (parameter, average) in enumerate(zip(parameters, averages, strict=False)):
        if parameter.shape != average.shape:
            raise ValueError(
                f"averaged tensor {index} has shape {tuple(average.shape)}, parameter {index} of the optimizer "
                f"{tuple(parameter.shape)}: this state was saved with the parameters in another order"
            )

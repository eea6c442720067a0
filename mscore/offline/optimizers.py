"""Optimizers and schedulers as the config names them: ``learning_rate`` for torch's ``lr``."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch.optim.lr_scheduler import LRScheduler

Parameters = Iterable[torch.nn.Parameter]


class AdamW(torch.optim.AdamW):
    """torch's AdamW, with a ``zero_grad`` that only forgets the gradients.

    torch's own also sets up what zeroing them in place would need and opens a profiler's context, at a fifth
    of the cost of a small network's whole update.
    """

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or zero them in place."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def adamw(
    params: Parameters,
    learning_rate: Annotated[float, Ge(0)] = 1e-5,
    weight_decay: Annotated[float, Ge(0)] = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019), fused into one kernel where the device has one.

    Args:
        params: the parameters to train.
        learning_rate: step size.
        weight_decay: decoupled decay, applied to every parameter.
        betas: decay of the first and second moment.
        eps: added to the denominator.
        fused: one kernel for the whole update; the default implementation costs about six times as
            much on a CPU. mscore turns it off where gradient scaling and clipping meet, which the fused
            kernel cannot do.
    """
    return AdamW(params, lr=learning_rate, weight_decay=weight_decay, betas=betas, eps=eps, fused=fused)


class LinearWarmup(LRScheduler):
    """Raises the learning rate linearly over the first steps, then keeps it.

    It is stepped after every optimizer step, so its step does no more than it has to.

    Args:
        optimizer: the optimizer.
        warmup_steps: optimizer steps until the full learning rate; step ``n`` (from 0) trains with
            ``min((n + 1) / warmup_steps, 1)`` of it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup_steps: Annotated[int, Ge(0)] = 1000) -> None:
        self.warmup_steps = warmup_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The learning rate of every parameter group at the current step."""
        factor = min((self.last_epoch + 1) / max(self.warmup_steps, 1), 1.0)
        return [base * factor for base in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go on by one step."""
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        rates = self.get_lr()
        # A group that a callback has added since, to unfreeze a backbone say, keeps a rate of its own.
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at a checkpoint's step, with the warm-up that was asked for now."""
        super().load_state_dict({**state_dict, "warmup_steps": self.warmup_steps})


def _with_learning_rate(optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """A factory of a torch optimizer that calls its ``lr`` ``learning_rate``."""

    def factory(params: Parameters, *, learning_rate: float | None = None, **arguments: Any) -> torch.optim.Optimizer:
        if learning_rate is not None:
            arguments["lr"] = learning_rate
        return optimizer(params, **arguments)

    parameters, annotations = [], {}
    for parameter in inspect.signature(optimizer).parameters.values():
        if parameter.name == "lr":
            parameter = parameter.replace(name="learning_rate", annotation=float)
        parameters.append(parameter)
        annotations[parameter.name] = parameter.annotation
    factory.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    factory.__annotations__ = annotations
    factory.__name__ = factory.__qualname__ = optimizer.__name__.lower()
    factory.__doc__ = f"torch.optim.{optimizer.__name__}; see torch's documentation of it."
    return factory


adadelta = _with_learning_rate(torch.optim.Adadelta)
adafactor = _with_learning_rate(torch.optim.Adafactor)
adagrad = _with_learning_rate(torch.optim.Adagrad)
adam = _with_learning_rate(torch.optim.Adam)
adamax = _with_learning_rate(torch.optim.Adamax)
asgd = _with_learning_rate(torch.optim.ASGD)
nadam = _with_learning_rate(torch.optim.NAdam)
radam = _with_learning_rate(torch.optim.RAdam)
rmsprop = _with_learning_rate(torch.optim.RMSprop)
rprop = _with_learning_rate(torch.optim.Rprop)
sgd = _with_learning_rate(torch.optim.SGD)

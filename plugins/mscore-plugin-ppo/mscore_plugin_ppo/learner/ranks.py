"""The processes that train together, as each of them sees the others."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed


class Ranks:
    """What the training processes tell one another; with one alone, nothing.

    Every process must call the same methods in the same order.

    Args:
        rank: of this process; rank 0 alone logs, evaluates and saves.
        world: how many there are; above 1 torch's default process group connects them.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world
        self._averaged = False

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of everyone's tensor, which is changed in place."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give everyone rank 0's values."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor.detach(), 0)

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Average everyone's gradients; a parameter that is without one here counts as 0 if another has one."""
        if self.world == 1 or not parameters:
            return
        groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for parameter in parameters:
            groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for group in groups.values():
            self._average(group)
        self._averaged = True

    def average_before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Average an optimizer's gradients unless that was done since its last step: its ``step`` pre-hook."""
        if not self._averaged:
            parameters = [one for group in optimizer.param_groups for one in group["params"] if one.requires_grad]
            self.average_gradients(parameters)
        self._averaged = False

    def _average(self, group: list[torch.Tensor]) -> None:
        present = torch.tensor([parameter.grad is not None for parameter in group])
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in group]
        flat = torch.cat([present.to(group[0]), *(part.flatten() for part in parts)])
        self.sum(flat)
        sizes = [one.numel() for one in group]
        counts, values = flat[: len(group)].tolist(), flat[len(group) :] / self.world
        for parameter, count, value in zip(group, counts, torch.split(values, sizes), strict=True):
            if count:
                parameter.grad = value.view_as(parameter).clone()

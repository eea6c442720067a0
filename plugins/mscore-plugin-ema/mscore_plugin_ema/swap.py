"""Exchanging what tensors hold, in constant time, so that it can always be undone."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class BufferSlot:
    """A registered buffer, by the place where its module keeps it.

    A module may assign a new tensor to the name of a buffer, so a reference to the tensor would go stale.
    """

    __slots__ = ("module", "name")

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def tensor(self) -> Tensor:
        """The buffer as it is now."""
        value = self.module._buffers[self.name]
        assert value is not None  # slots are made of buffers that hold a tensor
        return value


def swap_tensors(tensor1: Tensor, tensor2: Tensor) -> None:
    """Exchange the data of two tensors of one dtype and device: their storages change hands, nothing is copied."""
    _swap_all([(tensor1, tensor2)])


def _swap_all(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    # Evaluation loops run in inference mode, in which a tensor would pick up marks that forbid training it.
    with torch.inference_mode(False), torch.no_grad():
        for one, two in pairs:
            one.data, two.data = two.data, one.data


class Exchange:
    """Averaged tensors in the place of live ones, until :meth:`undo`.

    Parameters point at the averaged tensors themselves (or a converted copy, where dtype or device
    differ); buffers get a copy, as evaluating may write to them.

    Args:
        parameters: pairs of a live parameter and its average.
        buffers: pairs of a live buffer's slot and its average.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[Tensor, Tensor]],
        buffers: Iterable[tuple[BufferSlot, Tensor]] = (),
    ) -> None:
        self._parameters: list[tuple[Tensor, Tensor]] = []
        self._buffers: list[tuple[BufferSlot, Tensor, Tensor]] = []
        with torch.inference_mode(False), torch.no_grad():
            for parameter, average in parameters:
                # `to` returns the average itself where nothing differs; detach gives a handle of its own.
                holder = average.detach().to(parameter.device, parameter.dtype)
                self._parameters.append((parameter, holder))
            for slot, average in buffers:
                live = slot.tensor
                self._buffers.append((slot, live, average.detach().to(live.device, live.dtype, copy=True)))
            self._exchange()

    def trained(self) -> dict[int, Tensor]:
        """What was set aside, by the ``id`` of the live tensor."""
        kept = {id(parameter): holder for parameter, holder in self._parameters}
        return kept | {id(live): holder for _, live, holder in self._buffers}

    def undo(self) -> None:
        """Give the live tensors their own data back; calling it again does nothing."""
        self._exchange()
        for slot, live, _ in self._buffers:
            slot.module._buffers[slot.name] = live  # evaluation may have assigned another tensor
        self._parameters, self._buffers = [], []

    def _exchange(self) -> None:
        _swap_all(self._parameters)
        _swap_all([(live, holder) for _, live, holder in self._buffers])

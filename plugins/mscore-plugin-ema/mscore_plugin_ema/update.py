"""The averaging itself: one pass over the weights, here or in a thread on the CPU."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]


def ema_update(ema_model_tuple: Tensors, current_model_tuple: Tensors, decay: float) -> None:
    """Move averages towards the current weights, in place: ``ema = decay * ema + (1 - decay) * current``.

    Where all dtypes agree this is one fused pass (read both, write the average). Averages of another dtype
    than the weights (float32 of bfloat16 weights) take two passes and no temporary copy of the model.

    Args:
        ema_model_tuple: the averages.
        current_model_tuple: current weights, of the same shapes and on the same devices, pair by pair.
        decay: share of the old average that is kept, in [0, 1].
    """
    with torch.no_grad():
        dtypes = {tensor.dtype for tensor in ema_model_tuple}
        dtypes.update([tensor.dtype for tensor in current_model_tuple])
        if len(dtypes) == 1:
            torch._foreach_lerp_(ema_model_tuple, current_model_tuple, 1.0 - decay)
        elif dtypes:
            torch._foreach_mul_(ema_model_tuple, decay)
            torch._foreach_add_(ema_model_tuple, current_model_tuple, alpha=1.0 - decay)


def run_ema_update_cpu(
    ema_model_tuple: Tensors,
    current_model_tuple: Tensors,
    decay: float,
    pre_sync_stream: "torch.cuda.Stream | None" = None,
) -> None:
    """Update averages that are kept on the CPU, once the copies of the weights have arrived there.

    Args:
        ema_model_tuple: the averages, on the CPU.
        current_model_tuple: copies of the current weights, on the CPU.
        decay: as for :func:`ema_update`.
        pre_sync_stream: the CUDA stream that copies the weights; it is waited for first.
    """
    if pre_sync_stream is not None:
        pre_sync_stream.synchronize()
    ema_update(ema_model_tuple, current_model_tuple, decay)


class OffloadedUpdate:
    """Averages on the CPU of weights elsewhere: copied by a side stream, updated by a thread.

    Args:
        averages: on the CPU; those of parameters first, then those of buffers.
        parameters: how many of them belong to parameters.
    """

    def __init__(self, averages: Tensors, parameters: int, device: torch.device) -> None:
        self._averages = averages
        self._count = parameters
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._staged: list[Tensor] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ema")
        self._pending: Future[None] | None = None

    def start(self, parameters: Tensors, buffers: Tensors, decay: float) -> None:
        """Begin one update. The weights may change again after :meth:`before_weights_change`."""
        self.join()
        live = [*parameters, *buffers]
        if not self._staged:
            pin = self._stream is not None
            self._staged = [torch.empty_like(tensor, device="cpu", pin_memory=pin) for tensor in live]
        asynchronous = self._stream is not None
        if self._stream is not None:
            main = torch.cuda.current_stream(self._stream.device)
            self._stream.wait_stream(main)
        with torch.no_grad(), torch.cuda.stream(self._stream) if self._stream else nullcontext():
            if buffers:
                torch._foreach_copy_(self._staged[self._count :], live[self._count :], non_blocking=asynchronous)
                if self._stream is not None:  # the next forward pass already writes to buffers
                    main.wait_stream(self._stream)
            torch._foreach_copy_(self._staged[: self._count], live[: self._count], non_blocking=asynchronous)
        self._pending = self._thread.submit(run_ema_update_cpu, self._averages, self._staged, decay, self._stream)

    def before_weights_change(self) -> None:
        """Make the device finish reading the weights before it changes them; the host does not wait."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def join(self) -> None:
        """Wait for the update that is under way.

        Raises:
            Exception: whatever went wrong in the thread.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

"""The connection to Ray."""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from mscore import MscoreError

KNOCK_SECONDS = 10.0
"""How long a cluster has to take a connection. Ray itself tries for minutes before it says that nobody is there."""


@contextmanager
def connected(address: str | None, cpus: float, gpus: float = 0.0) -> Iterator[None]:
    """Ray, as long as this lasts; a connection that is there already is used, and left as it is.

    Args:
        address: of a running cluster, such as ``auto`` or ``host:6379``; None for ``RAY_ADDRESS``, and
            where that is not set, for a Ray of this machine's own that ends with the connection.
        cpus: CPU cores that are about to be asked for: on a machine that has fewer, its own Ray shares them.
        gpus: GPUs that are about to be asked for, for the message.

    Raises:
        MscoreError: there is no cluster at the address, or no GPUs as asked for.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # The dashboard and what every process prints are for who runs a cluster; a run has its own files.
        if not address:
            cores = max(os.cpu_count() or 1, math.ceil(cpus))
            ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise MscoreError(
            f"Ray cannot be reached (ray_address: {address or 'this machine'}): "
            f"{type(error).__name__}: {error}; `ray status` says whether a cluster is up"
        ) from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray has taken them, to end the process at once
            signal.signal(number, handler)
    try:
        if not address and gpus > ray.cluster_resources().get("GPU", 0.0):
            raise MscoreError(
                f"{gpus:g} GPUs are asked for, and Ray finds {ray.cluster_resources().get('GPU', 0.0):g} on this "
                "machine; lower num_gpus_per_worker or num_gpus_per_rollout_worker, or name a cluster (ray_address)"
            )
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out whether anybody listens at an address with a port; others (``auto``) are Ray's to look up.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def why_not_started(what: str, seconds: float, cpus: float, gpus: float) -> str:
    """A message about processes that did not start: what each asks for, and what Ray has.

    Args:
        what: the processes, such as ``rollout worker 3``.
        seconds: that starting them was given.
        cpus: CPU cores that each asks for.
        gpus: GPUs that each asks for.
    """
    total, free = ray.cluster_resources(), ray.available_resources()
    return (
        f"{what} did not start within {seconds:g} s. Each asks for {cpus:g} CPU and {gpus:g} GPU; Ray has "
        f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU in all, of which {free.get('CPU', 0):g} and "
        f"{free.get('GPU', 0):g} are free. Ask for less, or raise `start_timeout` where the cluster is still growing"
    )

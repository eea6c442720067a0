"""The connection to Ray."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from mscore import MscoreError


def require_ray() -> None:
    """Check that Ray is there.

    Raises:
        MscoreError: with the line that installs it.
    """
    try:
        found = find_spec("ray") is not None
    except ValueError:  # its import was forbidden
        found = False
    if not found:
        raise MscoreError(
            "num_workers and num_rollout_workers above 0 run on Ray, which is not installed: "
            'pip install "mscore-plugin-ppo[ray]"; with both at 0 everything runs in this process'
        )


@contextmanager
def connected(address: str | None, cpus: float, gpus: float = 0.0) -> Iterator[None]:
    """Ray, as long as this lasts; a connection that is there already is used, and left as it is.

    Args:
        address: of a running cluster, such as ``auto`` or ``ray://host:10001``; None for ``RAY_ADDRESS``, and
            where that is not set, for a Ray of this machine's own that ends with the connection.
        cpus: CPU cores that are about to be asked for: on a machine that has fewer, its own Ray shares them.
        gpus: GPUs that are about to be asked for, for the message.

    Raises:
        MscoreError: Ray is not installed, there is no cluster at the address, or no GPUs as asked for.
    """
    require_ray()
    import ray

    if ray.is_initialized():
        yield
        return
    own = address is None and not os.environ.get("RAY_ADDRESS")
    try:
        # The dashboard and what every process prints are for who runs a cluster; a run has its own files.
        if own:
            cores = max(os.cpu_count() or 1, math.ceil(cpus))
            ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MscoreError(
            f"Ray cannot be reached (ray_address: {address or os.environ.get('RAY_ADDRESS') or 'this machine'}): "
            f"{type(error).__name__}: {error}; `ray status` says whether a cluster is up"
        ) from error
    try:
        if own and gpus > ray.cluster_resources().get("GPU", 0.0):
            raise MscoreError(
                f"{gpus:g} GPUs are asked for, and Ray finds {ray.cluster_resources().get('GPU', 0.0):g} on this "
                "machine; lower num_gpus_per_worker or num_gpus_per_rollout_worker, or name a cluster (ray_address)"
            )
        yield
    finally:
        ray.shutdown()

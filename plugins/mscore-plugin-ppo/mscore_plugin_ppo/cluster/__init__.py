"""Acting and training on Ray: on this machine, or on a cluster. Nothing here is imported unless it is asked for."""

import importlib.util

from mscore import MscoreError

try:
    _is_there = importlib.util.find_spec("ray") is not None
except ValueError:  # its import is forbidden
    _is_there = False
if not _is_there:
    raise MscoreError(
        "num_workers and num_rollout_workers above 0 run on Ray, which is not installed: "
        'pip install "mscore-plugin-ppo[ray]"; with both at 0 everything runs in this process'
    )

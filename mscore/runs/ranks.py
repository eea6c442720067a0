"""Which process of a distributed run this is, read from what launched it, before torch is imported."""

import os

from mscore.errors import MscoreError

_GLOBAL_RANK = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Lightning's own order, so that both call the same process rank zero."""


def rank() -> int:
    """This process's rank: 0 for a run of one process, and for the process that a user started."""
    if _slurm_is_interactive():
        return 0
    return next((int(os.environ[name]) for name in _GLOBAL_RANK if os.environ.get(name, "").isdigit()), 0)


def is_rank_zero() -> bool:
    """Whether this process writes the run's files and prints."""
    return rank() == 0


def launched_job() -> str | None:
    """A name that all processes of one launch share, or None if one process was started.

    torchrun and SLURM start all processes at once, none of them before the others, so that they can
    agree on a run directory only through what their launcher calls the job. A requeued or restarted job
    gets another name.

    Raises:
        MscoreError: torchrun on several nodes without an id, by which the nodes could agree.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        job, restart = environment["TORCHELASTIC_RUN_ID"], environment.get("TORCHELASTIC_RESTART_COUNT", "0")
        if job == "none":  # torchrun's default, the same for every launch
            if environment.get("WORLD_SIZE") != environment.get("LOCAL_WORLD_SIZE"):
                raise MscoreError("torchrun on several nodes needs --rdzv-id=ID, by which the nodes name the run")
            job = str(os.getppid())
        return f"torchrun-{job}-{restart}"
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        if _slurm_is_interactive():
            return None
        restart = environment.get("SLURM_RESTART_COUNT", "0")
        return f"slurm-{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}-{restart}"
    return None


def _slurm_is_interactive() -> bool:
    """A shell inside an allocation: its variables describe the allocation, not this process."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") and "RANK" not in os.environ

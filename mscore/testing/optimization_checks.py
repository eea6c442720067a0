"""What optimizers and schedulers must do: be built, step, and go on from a checkpoint."""

from typing import Any

import torch

from mscore.testing.checks import CheckFailed, check, require
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny import TinyObjective, TinyPolicy, tiny_batch
from mscore.testing.trees import copied, difference, through_checkpoint


def _policy() -> TinyPolicy:
    torch.manual_seed(0)
    return TinyPolicy()


def _step(policy: TinyPolicy, optimizer: torch.optim.Optimizer, seed: int) -> None:
    batch = tiny_batch(seed=seed)
    latents, _ = policy(batch, None)
    optimizer.zero_grad()
    TinyObjective()(batch, 0, "train", latents, policy)["loss"].backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _restored(target: Any, state: Any) -> Any:
    try:
        target.load_state_dict(through_checkpoint(state))
    except Exception as error:
        raise CheckFailed(f"its state does not come back from a checkpoint: {error}") from error
    return target


@check("optimizer", "steps", remedy="subclass `torch.optim.Optimizer`; give a sample with a learning rate above 0")
def steps(subject: ComponentSubject) -> None:
    """Built with the parameters to train, it changes them by finite amounts."""
    policy = _policy()
    optimizer = subject.build(params=list(policy.parameters()))
    require(isinstance(optimizer, torch.optim.Optimizer), f"it is a {type(optimizer).__name__}, expected an Optimizer")
    before = copied(dict(policy.named_parameters()))
    for seed in range(3):
        _step(policy, optimizer, seed)
    after = dict(policy.named_parameters())
    require(difference(before, after), "after three steps no parameter has changed")
    require(all(torch.isfinite(one).all() for one in after.values()), "a parameter is not finite")


@check("optimizer", "resume", remedy="keep everything in `self.state` and the parameter groups")
def resume(subject: ComponentSubject) -> None:
    """From a checkpoint it goes on exactly as without one."""
    policy = _policy()
    optimizer = subject.build(params=list(policy.parameters()))
    _step(policy, optimizer, 0)
    other = _policy()
    other.load_state_dict(copied(policy.state_dict()))
    resumed = _restored(subject.build(params=list(other.parameters())), optimizer.state_dict())
    _step(policy, optimizer, 1)
    _step(other, resumed, 1)
    gap = difference(policy.state_dict(), other.state_dict())
    require(not gap, f"after a resume {gap}")


@check("scheduler", "steps", remedy="subclass torch's `LRScheduler`; it is stepped after every optimizer step")
def schedules(subject: ComponentSubject) -> None:
    """Built with an optimizer and stepped with it, it gives finite learning rates, and goes on from a checkpoint."""
    rates = []
    state: Any = None
    for resumed in (False, True):
        policy = _policy()
        optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
        scheduler = subject.build(optimizer=optimizer)
        require(hasattr(scheduler, "step"), f"it is a {type(scheduler).__name__}, expected a scheduler")
        if resumed:
            _restored(scheduler, state[0])
            optimizer.load_state_dict(state[1])
        for index in range(3 if resumed else 6):
            _step(policy, optimizer, index)
            scheduler.step()
            if index == 2 and not resumed:
                state = copied(scheduler.state_dict()), copied(optimizer.state_dict())
            rates.append(optimizer.param_groups[0]["lr"])
    require(all(0 <= rate < float("inf") for rate in rates), f"the learning rates are {rates}")
    require(rates[3:6] == rates[6:], f"after a resume the learning rates are {rates[6:]}, without one {rates[3:6]}")

"""What an objective must do (see ``docs/contracts.md``)."""

import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mscore.testing.checks import CheckFailed, CheckSkipped, Unusable, check, require
from mscore.testing.objective_case import ROWS, ObjectiveCase, loss_of
from mscore.testing.subjects import ComponentSubject
from mscore.testing.trees import copied, cut, difference, named_leaves, through_checkpoint

OBJECTIVE = "objective"
_CLOSE = {"rtol": 1e-5, "atol": 1e-6}
_CARRIED = ("mask", "first", "timestamp", "episode")


@check(OBJECTIVE, "metrics", remedy="return a mapping of name to number or one-element tensor, such as {'loss': loss}")
def metrics(subject: ComponentSubject) -> None:
    """It returns a mapping of name to number or tensor of one element, in training and in validation."""
    case = ObjectiveCase(subject)
    for step_name in ("train", "val"):
        with torch.set_grad_enabled(step_name == "train"):
            result = case.evaluate(case.make(), case.batch(), case.policy(), step_name)
        require(isinstance(result, Mapping), f"it returned a {type(result).__name__} in the {step_name} step")
        for key, value in result.items():
            fits = isinstance(value, bool | int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
            require(isinstance(key, str), f"the key {key!r} is no text")
            require(fits, f"{key!r} is a {type(value).__name__}{shape} in the {step_name} step")


@check(OBJECTIVE, "loss", remedy="compute `loss` from the latents without detaching, and reduce it to one number")
def loss(subject: ComponentSubject) -> None:
    """The loss is finite, one number, and its gradients reach the policy and are finite."""
    case = ObjectiveCase(subject)
    policy, objective = case.policy(), case.make()
    value = loss_of(case.evaluate(objective, case.batch(), policy))
    require(isinstance(value, torch.Tensor), f"the loss is a {type(value).__name__}, expected a tensor")
    require(value.numel() == 1, f"the loss has the shape {tuple(value.shape)}, expected one number")
    require(torch.isfinite(value).all(), f"the loss is {value.item()}")
    require(value.requires_grad, "the loss has no graph: nothing would be trained")
    value.reshape(()).backward()
    own = objective.parameters() if isinstance(objective, nn.Module) else ()
    gradients = [one.grad for one in (*policy.parameters(), *own) if one.grad is not None]
    require(gradients, "no parameter gets a gradient")
    require(all(torch.isfinite(one).all() for one in gradients), "a gradient is not finite")


@check(OBJECTIVE, "metrics-detached", remedy="`.detach()` what is only logged: its graph is kept alive", advice=True)
def metrics_detached(subject: ComponentSubject) -> None:
    """Only the loss carries a graph; the other terms are plain values."""
    case = ObjectiveCase(subject)
    result = case.metrics(case.make(), case.batch())
    attached = [key for key, value in result.items() if key != "loss" and getattr(value, "requires_grad", False)]
    require(not attached, f"with a graph: {', '.join(attached)}")


@check(OBJECTIVE, "deterministic", remedy="draw random numbers from torch's generator only, and carry nothing over")
def deterministic(subject: ComponentSubject) -> None:
    """Under one seed, two objectives report the same for one batch."""
    case = ObjectiveCase(subject)
    case.refuse_chance()


@check(OBJECTIVE, "masked-steps", remedy="leave masked frames out by `masked_fill`, in the sum and in the count")
def masked_steps(subject: ComponentSubject) -> None:
    """Frames that `mask` leaves out contribute nothing to the loss or its gradients, whatever stands there."""
    case = ObjectiveCase(subject)
    case.refuse_chance()
    batch, other = case.batch(), case.batch(seed=9)
    # Only frames behind a row's last valid one are changed, so that no memory carries them further.
    changed = {
        key: value if key in _CARRIED else _filled(value, other[key], batch["mask"]) for key, value in batch.items()
    }
    value, gradients = case.loss_and_gradients(batch)
    again, others = case.loss_and_gradients(changed)
    gap = difference({"the loss": value}, {"the loss": again}, **_CLOSE)
    require(not gap, f"with other frames under the mask {gap}")
    gap = difference(gradients, others, rtol=1e-4, atol=1e-6)
    require(not gap, f"with other frames under the mask the gradient of {gap}")


def _filled(value: Any, other: Any, mask: torch.Tensor) -> Any:
    """A batch's entry with another's at the frames that are not valid."""
    if isinstance(value, torch.Tensor) and value.shape[:2] == mask.shape:
        return torch.where(mask.reshape(*mask.shape, *[1] * (value.dim() - 2)), value, other)
    if isinstance(value, Mapping):
        return {key: _filled(item, other[key], mask) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_filled(item, other[index], mask) for index, item in enumerate(value))
    return value


@check(OBJECTIVE, "nothing-valid", remedy="divide by the number of valid frames with `.clamp(min=1)`")
def nothing_valid(subject: ComponentSubject) -> None:
    """A batch without any valid frame has a finite loss and finite gradients."""
    case = ObjectiveCase(subject)
    batch = case.batch()
    batch["mask"][:] = False
    value, gradients = case.loss_and_gradients(batch)
    require(torch.isfinite(value).all(), f"the loss is {value.item()}")
    require(all(torch.isfinite(one).all() for one in gradients.values()), "a gradient is not finite")


@check(OBJECTIVE, "without-mask", remedy="`batch.get('mask')`: without it every frame is valid")
def without_mask(subject: ComponentSubject) -> None:
    """A batch without `mask` counts as one in which every frame is valid."""
    case = ObjectiveCase(subject)
    case.refuse_chance()
    if "mask" in getattr(case.make(), "needs_batch", ()):
        raise CheckSkipped("it declares that it needs `mask`")
    batch = case.batch()
    batch["mask"][:] = True
    bare = {key: value for key, value in batch.items() if key != "mask"}
    gap = difference(case.metrics(case.make(), batch), case.metrics(case.make(), bare), **_CLOSE)
    require(not gap, gap)


@check(OBJECTIVE, "splitting-the-batch", remedy="divide by the number that `mean_over` says, or declare None")
def splitting_the_batch(subject: ComponentSubject) -> None:
    """The loss of a batch is the mean of its parts' losses, weighted by what `mean_over` declares."""
    case = ObjectiveCase(subject)
    case.refuse_chance()
    over = getattr(case.make(), "mean_over", None)
    if over is None:
        raise CheckSkipped("it declares no mean: `mean_over` is None")
    require(over in ("frames", "rows"), f"mean_over is {over!r}, expected 'frames', 'rows' or None")
    batch = case.batch()
    whole = float(torch.as_tensor(loss_of(case.metrics(case.make(), batch))).detach())
    total, count = 0.0, 0.0
    for rows in (slice(0, 1), slice(1, ROWS)):
        part = cut(batch, rows)
        valid = part["mask"].sum() if over == "frames" else part["mask"].any(dim=1).sum()
        total += float(torch.as_tensor(loss_of(case.metrics(case.make(), part))).detach()) * float(valid)
        count += float(valid)
    gap = abs(whole - total / count)
    close = gap <= 1e-5 + 1e-4 * abs(whole)
    require(close, f"the whole batch's loss is {whole:.6g}, the mean of its parts' {total / count:.6g}")


@check(OBJECTIVE, "state", remedy="keep what is carried in `state_dict()` and take it back in `load_state_dict(state)`")
def state(subject: ComponentSubject) -> None:
    """What it carries from step to step comes back from a checkpoint that is read with `weights_only=True`."""
    case = ObjectiveCase(subject)
    case.refuse_chance()
    going_on = case.make()
    for index in range(2):
        case.metrics(going_on, case.batch(start=5 * index, seed=index))
    resumed = case.make()
    if hasattr(going_on, "state_dict"):
        try:
            kept = through_checkpoint(going_on.state_dict())
        except Exception as error:
            raise CheckFailed(f"its state cannot be kept in a checkpoint: {error}") from error
        if isinstance(resumed, nn.Module):
            with torch.no_grad():
                for parameter in resumed.parameters():
                    parameter.add_(1.0)
        resumed.load_state_dict(kept)
    following = case.batch(start=10, seed=2)
    gap = difference(case.metrics(going_on, following), case.metrics(resumed, following))
    lost = "" if hasattr(going_on, "state_dict") else ": it carries something and has no `state_dict`"
    require(not gap, f"after a resume {gap}{lost}")


@check(OBJECTIVE, "bf16-autocast", remedy="compute in float32 (`.float()`) what half precision cannot hold")
def bf16_autocast(subject: ComponentSubject) -> None:
    """Under bfloat16 autocast the loss and its gradients are finite."""
    case = ObjectiveCase(subject)
    with torch.autocast("cpu", torch.bfloat16):
        policy = case.policy()
        value = loss_of(case.evaluate(case.make(), case.batch(), policy))
    if not getattr(value, "requires_grad", False):
        raise Unusable("loss", "its loss is no tensor with a graph")
    require(torch.isfinite(value).all(), f"the loss is {value.item()}")
    value.reshape(()).backward()
    finite = all(torch.isfinite(one.grad).all() for one in policy.parameters() if one.grad is not None)
    require(finite, "a gradient is not finite")


@check(OBJECTIVE, "picklable", remedy="keep no lambdas, open files or locks in attributes")
def picklable(subject: ComponentSubject) -> None:
    """It can be sent to a process that is spawned, and computes the same there."""
    case = ObjectiveCase(subject)
    case.refuse_chance()
    objective = case.make()
    try:
        copy = pickle.loads(pickle.dumps(objective))
    except Exception as error:
        raise CheckFailed(f"{type(error).__name__}: {error}") from error
    gap = difference(case.metrics(objective, case.batch()), case.metrics(copy, case.batch()))
    require(not gap, f"the copy is another: {gap}")


@check(
    OBJECTIVE, "leaves-the-batch-alone", remedy="return a new dict from `before_step`, and change no tensor in place"
)
def leaves_the_batch_alone(subject: ComponentSubject) -> None:
    """It changes no tensor of the batch in place: other objectives read the same ones."""
    case = ObjectiveCase(subject)
    batch, objective, policy = case.batch(), case.make(), case.policy()
    before = copied(batch)
    given = objective.before_step(batch, 0, "train")
    require(isinstance(given, Mapping), f"before_step returned a {type(given).__name__}, expected the batch")
    latents, _ = policy({**given}, None)
    seen = [(path, leaf, leaf.detach().clone()) for path, leaf in named_leaves(latents)]
    objective(given, 0, "train", latents, policy)
    for path, leaf, kept in seen:
        require(not difference(leaf, kept), f"it changed the latent {path!r}")
    for key, value in before.items():
        gap = difference({key: value}, {key: batch.get(key, ())})
        require(not gap, f"it changed the batch: {gap}")


@check(
    OBJECTIVE, "declared-needs", remedy="name the key in `needs_batch` (or `needs_latents`) of the class", advice=True
)
def declared_needs(subject: ComponentSubject) -> None:
    """It declares the batch keys that it cannot do without, so that a run can say so before it starts."""
    case = ObjectiveCase(subject)
    objective = case.make()
    needs = set(getattr(objective, "needs_batch", ()))
    batch = case.batch()
    optional = {"agent_action", "mask", "timestamp", "episode"} - needs
    for key in sorted(optional & set(batch)):
        rest = {name: value for name, value in batch.items() if name != key}
        try:
            case.metrics(case.make(), rest)
        except Exception as error:
            raise CheckFailed(f"it cannot do without {key!r} ({type(error).__name__}) and does not say so") from error

"""What a policy must do (see ``docs/contracts.md``): reading, remembering, forgetting."""

from collections.abc import Mapping
from typing import Any

import torch

from mscore.testing.checks import CheckFailed, CheckSkipped, check, require
from mscore.testing.policy_case import PolicyCase, same_frames
from mscore.testing.subjects import ComponentSubject
from mscore.testing.trees import copied, cut, difference, named_leaves
from mscore.tree import tree_leaves, tree_map

POLICY = "policy"


@check(POLICY, "forward", remedy="`forward(input, state_in)` reads (B, T, …) and returns (latents, state)")
def forward(subject: ComponentSubject) -> None:
    """`forward` takes input and state by position and returns latents by name, with leading (B, T), and a state."""
    case = PolicyCase(subject)
    latents, _ = case.read(case.window(3, 4))
    require(isinstance(latents, Mapping), f"the latents are a {type(latents).__name__}, expected a mapping by name")
    require("pi_logits" in latents, f"there is no latent `pi_logits`; there are {', '.join(map(str, latents))}")
    for path, leaf in named_leaves(latents["pi_logits"], "pi_logits"):
        require(leaf.shape[:2] == (3, 4), f"{path} has the shape {tuple(leaf.shape)}, expected leading (3, 4)")
    if "vpred" in latents:
        shape = tuple(latents["vpred"].shape)
        require(shape == (3, 4, 1), f"vpred has the shape {shape}, expected (3, 4, 1)")
    for path, leaf in named_leaves(latents):
        finite = not isinstance(leaf, torch.Tensor) or torch.isfinite(leaf).all()
        require(finite, f"{path} is not finite")


@check(POLICY, "latents", remedy="let `provides_latents` name exactly what `forward` always returns")
def latents(subject: ComponentSubject) -> None:
    """What `provides_latents` declares is returned."""
    case = PolicyCase(subject)
    declared = case.policy.provides_latents
    if declared is None:
        raise CheckSkipped("it declares no `provides_latents`")
    returned, _ = case.read(case.window(2, 3))
    lacking = sorted(set(declared) - set(returned))
    require(not lacking, f"declared and not returned: {', '.join(lacking)}")


@check(POLICY, "initial-state", remedy="return tensors with leading batch_size; without that dimension for None")
def initial_state(subject: ComponentSubject) -> None:
    """`initial_state(n)` has n rows, `initial_state(None)` none, and a state keeps that form after a window."""
    case = PolicyCase(subject)
    single = [tuple(leaf.shape) for leaf in tree_leaves(case.policy.initial_state(None))]
    for rows in (1, 3):
        initial = case.policy.initial_state(rows)
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(initial)]
        expected = [(rows, *shape) for shape in single]
        require(shapes == expected, f"initial_state({rows}) has the shapes {shapes}, expected {expected}")
        _, after = case.read(case.window(rows, 4))
        require(
            _form(after) == _form(initial),
            f"after a window the state is {_form(after)}, and initial_state({rows}) is {_form(initial)}",
        )


def _form(state: Any) -> Any:
    """A state's containers, with shapes for tensors."""
    if isinstance(state, torch.Tensor):
        return tuple(state.shape)
    if isinstance(state, Mapping):
        return {key: _form(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [type(state).__name__, *map(_form, state)]
    return type(state).__name__


@check(POLICY, "none-is-initial", remedy="`state_in = self.initial_state(B) if state_in is None else state_in`")
def none_is_initial(subject: ComponentSubject) -> None:
    """No state means the initial state."""
    case = PolicyCase(subject)
    window = case.window(3, 4)
    window["first"][:] = False
    given = case.frames(window, case.policy.initial_state(3))
    same_frames(case.frames(window), given, "without a state")


@check(POLICY, "any-size", remedy="take B and T from the input, and keep nothing of their size on the policy")
def any_size(subject: ComponentSubject) -> None:
    """One instance reads any number of rows and steps, in any order, and rows do not mix."""
    case = PolicyCase(subject)
    whole = case.window(3, 5)
    expected = case.frames(whole)
    for rows, steps in ((1, 1), (3, 2), (2, 5), (1, 5)):
        part = cut(whole, slice(0, rows), slice(0, steps))
        try:
            found = case.frames(part)
        except Exception as error:
            raise CheckFailed(f"with {rows} rows of {steps} steps: {type(error).__name__}: {error}") from error
        same_frames(found, {path: leaf[:rows, :steps] for path, leaf in expected.items()}, f"{rows} rows of {steps}")


@check(POLICY, "step-by-step", remedy="compute a frame from the state and earlier frames alone; return the state after")
def step_by_step(subject: ComponentSubject) -> None:
    """Acting step by step, one window and two windows give the same latents."""
    case = PolicyCase(subject)
    window = case.window(3, 6)
    whole = case.frames(window)
    same_frames(case.piecewise(window, [1] * 6), whole, "step by step")
    same_frames(case.piecewise(window, [2, 4]), whole, "in two windows")


@check(POLICY, "row-resets", remedy="use the state only in rows whose `first` is false")
def row_resets(subject: ComponentSubject) -> None:
    """A row whose `first` is true at its start forgets the state that it is given; the others keep theirs."""
    case = PolicyCase(subject)
    _, state = case.read(case.window(3, 5))
    if not list(tree_leaves(state)):
        raise CheckSkipped("it has no memory")
    window = case.window(3, 4, seed=5)
    window["first"][:] = False
    kept = case.frames(window, copied(state))
    window["first"][1, 0] = True
    found = case.frames(window, copied(state))
    row = cut(window, slice(1, 2))
    same_frames({path: leaf[1:2] for path, leaf in found.items()}, case.frames(row), "a row that begins anew")
    for other in (0, 2):
        mine = {path: leaf[other : other + 1] for path, leaf in found.items()}
        theirs = {path: leaf[other : other + 1] for path, leaf in kept.items()}
        same_frames(mine, theirs, "a row beside one that begins anew")


@check(POLICY, "first-mid-window", remedy="forget wherever `first` is true, not only at the window's start")
def first_mid_window(subject: ComponentSubject) -> None:
    """Where `first` is true within a window, the policy forgets what lies before it."""
    case = PolicyCase(subject)
    window = case.window(3, 6)
    window["first"][1, 3] = True
    whole = case.frames(window)
    later = cut(window, slice(1, 2), slice(3, 6))
    same_frames({path: leaf[1:2, 3:] for path, leaf in whole.items()}, case.frames(later), "behind a `first`")
    same_frames(case.piecewise(window, [1] * 6), whole, "step by step over a `first`")
    same_frames(case.piecewise(window, [5, 1]), whole, "in two windows over a `first`")


@check(POLICY, "deterministic", remedy="draw nothing at random in evaluation mode, and keep nothing between calls")
def deterministic(subject: ComponentSubject) -> None:
    """In evaluation mode a window gives the same latents again, and neither window nor state is changed."""
    case = PolicyCase(subject)
    window = case.window(3, 4)
    _, state = case.read(case.window(3, 4, seed=4))
    window["first"][:] = False
    kept_window, kept_state = copied(window), copied(state)
    one, _ = case.read(window, state)
    gap = difference(kept_window, window) or difference(kept_state, state)
    require(not gap, f"it changed its input in place: {gap}")
    torch.manual_seed(77)
    with torch.no_grad():
        other, _ = case.policy(window, state)
    gap = difference(one, other)
    require(not gap, f"read again, {gap}")


@check(POLICY, "moves", remedy="make states from a parameter (`weight.new_zeros`) or with `device=self.device`")
def moves(subject: ComponentSubject) -> None:
    """After `.to(device)` its initial state lies on that device; with a GPU, it reads a window there."""
    case = PolicyCase(subject)
    policy = case.make().to("meta")
    for leaf in tree_leaves(policy.initial_state(2)):
        require(leaf.device.type == "meta", f"after .to('meta') a state of initial_state(2) lies on {leaf.device}")
    if torch.cuda.is_available():
        on_gpu = case.make().to("cuda")
        window = tree_map(lambda leaf: leaf.to("cuda"), case.window(2, 3))
        latents, state = on_gpu(window, None)
        for path, leaf in named_leaves({"latents": latents, "state": state}):
            require(leaf.device.type == "cuda", f"{path} lies on {leaf.device}")

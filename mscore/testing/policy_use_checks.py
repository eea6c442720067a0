"""What a policy must do when it acts, is trained, saved and sent to another process."""

import pickle
from typing import Any

import gymnasium
import torch
from gymnasium import spaces

from mscore import minecraft_action_space
from mscore.heads.spaces import to_environment
from mscore.testing.checks import CheckFailed, CheckSkipped, Unusable, check, require
from mscore.testing.policy_case import PolicyCase, same_frames
from mscore.testing.subjects import ComponentSubject
from mscore.testing.trees import cut, named_leaves, through_checkpoint
from mscore.tree import tree_leaves, tree_map

POLICY = "policy"


@check(POLICY, "acting", remedy="do not override `get_action`, or keep its arguments, shapes and both input shapes")
def acting(subject: ComponentSubject) -> None:
    """`get_action` chooses actions of the action space, for windows and for one frame, and goes on from its state."""
    case = PolicyCase(subject)
    policy, window = case.policy, case.window(2, 1)
    case.read(window)
    actions, state = policy.get_action(window, None)
    for row in range(2):
        action = to_environment(tree_map(lambda leaf, row=row: leaf[row, 0], actions), policy.action_space)
        require(policy.action_space.contains(action), f"{action!r} lies outside of {policy.action_space}")
    policy.get_action({**window, "first": torch.zeros(2, 1, dtype=torch.bool)}, state, deterministic=True)
    frame = {key: _single(value) for key, value in cut(window, slice(0, 1)).items()}
    best, _ = policy.get_action(window, None, deterministic=True)
    alone, state = policy.get_action(frame, None, deterministic=True, input_shape="*")
    for mine, theirs in zip(tree_leaves(alone), tree_leaves(best), strict=True):
        require(mine.shape == theirs.shape[2:], f"one frame's action has the shape {tuple(mine.shape)}")
        close = torch.allclose(mine.float(), theirs[0, 0].float(), rtol=1e-3, atol=1e-4)
        require(close, "one frame's action is not that of the same frame in a window")
    expected = [tuple(leaf.shape) for leaf in tree_leaves(policy.initial_state(None))]
    found = [tuple(leaf.shape) for leaf in tree_leaves(state)]
    require(found == expected, f"one frame's state has the shapes {found}, expected {expected}")
    policy.get_action({**frame, "first": torch.tensor(False)}, state, input_shape="*")


def _single(value: object) -> object:
    """One frame without leading dimensions."""
    if isinstance(value, dict):
        return {key: _single(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_single(item) for item in value)
    return value[0, 0] if isinstance(value, torch.Tensor) else value[0][0]  # type: ignore[index]


@check(POLICY, "action-spaces", remedy="make heads with `super().__init__(hiddim, action_space)` from the space given")
def action_spaces(subject: ComponentSubject) -> None:
    """Its heads fit its action space, and every kind of action space where it takes one."""
    case = PolicyCase(subject)
    given = subject.sample.action_space is not None or case.action_space is None
    several: list[gymnasium.Space[object]] = [
        spaces.Discrete(4),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(3),
        spaces.Box(-1.0, 1.0, (2,)),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.Box(-1.0, 1.0, (1,))})}),
        minecraft_action_space(),
    ]
    for space in [case.policy.action_space] if given else several:
        case.action_space = case.action_space if given else space
        case.policy = case.make()
        require(case.policy.action_space == space, f"given {space}, its action_space is {case.policy.action_space}")
        batch = case.batch(2, 3)
        latents, _ = case.read(case.window(2, 3))
        try:
            logprob = case.policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        except Exception as error:
            raise CheckFailed(f"with {space}: {type(error).__name__}: {error}") from error
        require(logprob.shape == (2, 3), f"with {space} logprob has the shape {tuple(logprob.shape)}")
        require(torch.isfinite(logprob).all(), f"with {space} logprob is not finite")


@check(POLICY, "trains", remedy="compute latents under autograd, without `.detach()`, `.item()` or numpy on the way")
def trains(subject: ComponentSubject) -> None:
    """In training mode gradients of its latents reach its parameters, and are finite."""
    policy = _trained(PolicyCase(subject))
    gradients = [one.grad for one in policy.parameters() if one.grad is not None]
    require(gradients, "no parameter gets a gradient")
    require(all(torch.isfinite(one).all() for one in gradients), "a gradient is not finite")


@check(POLICY, "every-parameter-learns", remedy="freeze it (`requires_grad_(False)`) or remove it", advice=True)
def every_parameter_learns(subject: ComponentSubject) -> None:
    """Every trainable parameter takes part in the latents; DDP stops at one that does not."""
    policy = _trained(PolicyCase(subject))
    idle = [name for name, one in policy.named_parameters() if one.requires_grad and one.grad is None]
    require(not idle, f"without a gradient: {', '.join(idle[:5])}{' and others' if len(idle) > 5 else ''}")


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise Unusable("forward", f"forward returned a {type(result).__name__}, expected (latents, state)")
    return result


def _trained(case: PolicyCase) -> torch.nn.Module:
    policy: torch.nn.Module = case.make().train()
    latents, _ = _pair(policy(case.window(3, 4), None))
    leaves = [leaf for _, leaf in named_leaves(latents) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not leaves:
        raise Unusable("trains", "no latent has a graph")
    torch.stack([leaf.float().clamp(-1e4, 1e4).square().mean() for leaf in leaves]).sum().backward()  # type: ignore[no-untyped-call]
    return policy


@check(POLICY, "bf16-autocast", remedy="cast what half precision cannot hold to float32, and states to one dtype")
def bf16_autocast(subject: ComponentSubject) -> None:
    """Under bfloat16 autocast two windows are read, the state handed on, and the gradients are finite."""
    case = PolicyCase(subject)
    policy = case.make().train()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = _pair(policy(case.window(3, 4), None))
        latents, _ = policy(case.window(3, 4, seed=1), tree_map(torch.Tensor.detach, state))
    leaves = [leaf for _, leaf in named_leaves(latents) if isinstance(leaf, torch.Tensor)]
    require(all(torch.isfinite(leaf).all() for leaf in leaves), "a latent is not finite")
    if not any(leaf.requires_grad for leaf in leaves):
        raise Unusable("trains", "no latent has a graph")
    total = torch.stack([leaf.float().clamp(-1e4, 1e4).mean() for leaf in leaves if leaf.requires_grad]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    finite = all(torch.isfinite(one.grad).all() for one in policy.parameters() if one.grad is not None)
    require(finite, "a gradient is not finite")


@check(POLICY, "weights", remedy="keep everything learned in parameters and persistent buffers")
def weights(subject: ComponentSubject) -> None:
    """Its weights alone make the same policy of another instance, from a file read with `weights_only=True`."""
    case = PolicyCase(subject)
    try:
        kept = through_checkpoint(case.policy.state_dict())
    except Exception as error:
        raise CheckFailed(f"its state_dict cannot be kept in a checkpoint: {error}") from error
    other = case.make(seed=11)
    other.load_state_dict(kept)
    window = case.window(3, 4)
    same_frames(case.frames(window, policy=other), case.frames(window), "with loaded weights")


@check(POLICY, "picklable", remedy="keep no lambdas, hooks, open files or locks in attributes")
def picklable(subject: ComponentSubject) -> None:
    """It can be sent to a process that is spawned, and reads the same there."""
    case = PolicyCase(subject)
    try:
        copy = pickle.loads(pickle.dumps(case.policy))
    except Exception as error:
        raise CheckFailed(f"{type(error).__name__}: {error}") from error
    window = case.window(2, 3)
    same_frames(case.frames(window, policy=copy), case.frames(window), "the copy")


@check(POLICY, "keeps-nothing", remedy="return what is remembered as state; nothing of it belongs on the policy")
def keeps_nothing(subject: ComponentSubject) -> None:
    """What it read before changes nothing: two streams of windows can be read in turn with one instance."""
    case = PolicyCase(subject)
    one, other = case.window(2, 4, seed=1), case.window(3, 4, seed=2)
    expected = case.piecewise(one, [2, 2])
    _, state = case.read(cut(one, steps=slice(0, 2)))
    if not list(tree_leaves(state)):
        raise CheckSkipped("it has no memory")
    case.read(other)
    later = case.frames(cut(one, steps=slice(2, 4)), state)
    same_frames(later, {path: leaf[:, 2:] for path, leaf in expected.items()}, "after another stream")

"""Nests of dicts, lists and tuples with tensors at the leaves: a policy's state, a structured action."""

from collections.abc import Callable, Iterator
from typing import Any

import torch


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to the tensors of a nest (and of others of the same shape), keeping its shape.

    Leaves that are not tensors (None, numbers, text) are kept as they are.
    """
    if isinstance(tree, torch.Tensor):
        return function(tree, *others)
    if isinstance(tree, dict):
        return {key: tree_map(function, value, *(o[key] for o in others)) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(function, *items) for items in zip(tree, *others, strict=True)))
    if isinstance(tree, list | tuple):
        return type(tree)(tree_map(function, *items) for items in zip(tree, *others, strict=True))
    return tree


def tree_leaves(tree: Any) -> Iterator[torch.Tensor]:
    """The tensors of a nest, in order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tree_leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from tree_leaves(value)


def tree_detach(tree: Any) -> Any:
    """Detach every tensor of a nest from the computation graph, so that gradients stop there.

    Args:
        tree: a tensor, or a nest of dicts, lists and tuples.

    Returns:
        The nest with detached tensors; other leaves unchanged.
    """
    return tree_map(torch.Tensor.detach, tree)

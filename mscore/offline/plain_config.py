"""OmegaConf containers to plain Python."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf


def convert_to_normal(obj: Any) -> Any:
    """Convert OmegaConf containers, wherever they are in a nest, to plain dicts and lists.

    Checkpoints must hold plain values: a DictConfig among the hyperparameters cannot be loaded with
    ``weights_only=True``. Interpolations are resolved.

    Args:
        obj: a DictConfig, a ListConfig, a nest that holds some, or anything else.

    Returns:
        The same values in dicts and lists; other objects unchanged.
    """
    if isinstance(obj, DictConfig | ListConfig):
        return OmegaConf.to_container(obj, resolve=True)
    if isinstance(obj, dict):
        return {key: convert_to_normal(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [convert_to_normal(value) for value in obj]
    return obj

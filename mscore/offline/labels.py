"""Labels of objectives that a plain script gives as a list."""

import re
from collections import Counter
from collections.abc import Sequence

from mscore.components import components
from mscore.contracts.objective import ObjectiveCallback


def numbered_labels(objectives: Sequence[ObjectiveCallback]) -> dict[str, ObjectiveCallback]:
    """Label objectives with their registered names (``bc``), numbered where one occurs twice (``bc-2``).

    A class that no plugin registers is labelled by its own name in kebab case.
    """
    registered = {component.target: component.name for component in components("objective")}
    seen: Counter[str] = Counter()
    labels = {}
    for objective in objectives:
        cls = type(objective)
        kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        name = registered.get(f"{cls.__module__}:{cls.__qualname__}", kebab)
        seen[name] += 1
        labels[name if seen[name] == 1 else f"{name}-{seen[name]}"] = objective
    return labels

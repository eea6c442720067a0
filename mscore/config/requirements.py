"""``requires:`` of a config, held against what is installed; nothing is imported."""

import re
from typing import Any

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement

from mscore.config.messages import found

EXAMPLE = "'mscore>=0.1,<1'"


def parse_requirement(value: Any) -> Requirement | str:
    """A requirement as pip reads it, or what is wrong with it."""
    if not isinstance(value, str):
        return f"found {found(value)}, expected a requirement such as {EXAMPLE}"
    try:
        return Requirement(value)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        return f"found {found(value)}, expected a requirement such as {EXAMPLE}: {why}"


def requirement_problem(value: Any) -> str | None:
    """What is wrong with one requirement: none at all, not installed, or of another version; else None.

    One whose marker is not for this machine is met.
    """
    requirement = parse_requirement(value)
    if isinstance(requirement, str):
        return requirement
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    return _unmet(requirement)


def pip_install(requirements: list[str]) -> str:
    """The ``pip install`` line for requirements, quoted for a shell where needed."""
    quoted = [one if re.fullmatch(r"[\w.-]+", one) else f'"{one}"' for one in requirements]
    return " ".join(["pip", "install", *quoted])


def _unmet(requirement: Requirement) -> str | None:
    remedy = pip_install([str(requirement)])
    try:
        installed = importlib_metadata.distribution(requirement.name)
    except importlib_metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed: {remedy}"
    if not requirement.specifier.contains(installed.version, prereleases=True):
        return f"{requirement.name} {installed.version} is installed, needed is {requirement.specifier}: {remedy}"
    for extra in sorted(requirement.extras):
        for line in installed.requires or []:
            needed = Requirement(line)
            marker, needed.marker = needed.marker, None
            of_extra = marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
            if of_extra and _unmet(needed) is not None:
                return f"{needed} is not installed, which {requirement.name}[{extra}] needs: {remedy}"
    return None

"""The checks as pytest items, for a plugin's own test suite. The only module of the kit that imports pytest."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mscore.errors import MscoreError, did_you_mean
from mscore.plugins import PluginSet
from mscore.testing.checks import CheckFailed
from mscore.testing.collection import Item, collect
from mscore.testing.subjects import SampleSource


class ConformanceWarning(UserWarning):
    """A check that gives advice found something."""


def conformance(
    plugin: str,
    *,
    samples: Mapping[str, SampleSource] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    plugins: PluginSet | None = None,
) -> Callable[..., None]:
    """A parametrised test function that holds a plugin against every check that applies to it.

    ::

        test_conformance = conformance(
            "mscore-plugin-focal",
            samples={"objective/focal": {"gamma": 2.0}},
            expected_failures={"objective/focal/splitting-the-batch": "the loss ranks the batch"},
        )

    Args:
        plugin: name of the plugin, or of its distribution.
        samples: by ``<kind>/<component>`` what the kit cannot guess: constructor arguments, a
            :class:`~mscore.testing.Sample`, or a function of an empty folder that returns either.
        expected_failures: by the id of a check the reason for which it fails. It must fail: one that
            passes is a failure of the test.
        plugins: where the plugin is looked up; None means the installed ones.

    Raises:
        MscoreError: there is no such plugin, or a name among samples and expected failures is wrong.
    """
    items = collect(plugin, samples, plugins)
    known = {item.id for item in items}
    expected = dict(expected_failures or {})
    for identity, reason in expected.items():
        if identity not in known:
            raise MscoreError(
                f"expected_failures names {identity!r}, and there is no such check.{did_you_mean(identity, known)} "
                f"`mscore plugins check {plugin}` lists them"
            )
        if not reason.strip():
            raise MscoreError(f"expected_failures gives no reason for {identity!r}: say why it may fail")

    @pytest.mark.parametrize("item", [_parameter(item, expected) for item in items])
    def test_conformance(item: Item, tmp_path: Path) -> None:
        _run(item, tmp_path)

    return test_conformance


def _parameter(item: Item, expected: Mapping[str, str]) -> Any:
    marks = []
    if item.id in expected:
        marks.append(pytest.mark.xfail(reason=expected[item.id], strict=True, raises=CheckFailed))
    return pytest.param(item, id=item.id, marks=marks)


def _run(item: Item, folder: Path) -> None:
    outcome = item.run(folder)
    if outcome.status == "skipped":
        pytest.skip(outcome.reason)
    if outcome.status == "warning":
        warnings.warn(ConformanceWarning(f"{item.id}: {outcome.reason}. {outcome.remedy}"), stacklevel=2)
    if outcome.status == "fail":
        message = f"{item.check.promise}\n{outcome.reason}\nWhat to do: {outcome.remedy}"
        raise CheckFailed(message) from outcome.error

"""Each check of policies catches its mistake."""

import re

import pytest
import wrong_policies as wrong

from mscore.testing.checks import checks_of

NAMES = [name for name in vars(wrong) if name.endswith("Wrong")]
ALSO = {
    # A state that is wrong after a window, or at the start of one, is wrong over a `first` as well.
    "StepByStepWrong": {"first-mid-window"},
    "RowResetsWrong": {"first-mid-window"},
    "InitialStateWrong": {"acting"},
    "KeepsNothingWrong": {"bf16-autocast", "row-resets", "step-by-step", "first-mid-window", "deterministic"},
}


def check_of(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.removesuffix("Wrong")).lower()


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_caught_by_its_check(caught, name):
    found = caught("policy", f"wrong_policies:{name}") - {"documented"}
    assert check_of(name) in found
    assert found <= {check_of(name)} | ALSO.get(name, set())


def test_every_check_has_a_mistake():
    assert {check_of(name) for name in NAMES} == {one.name for one in checks_of("policy")}


@pytest.mark.parametrize("name", ["Right", "ListState", "KeywordsAndTuple"])
def test_every_form_passes(outcomes, name):
    found = outcomes("policy", f"wrong_policies:{name}")
    assert {name: one for name, one in found.items() if one.status not in ("pass", "skipped")} == {}
    assert {name for name, one in found.items() if one.status == "skipped"} <= {"latents"}

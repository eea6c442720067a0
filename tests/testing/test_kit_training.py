"""Each check of callbacks and data modules catches its mistake."""

import re

import pytest
import wrong_callbacks as wrong

from mscore.testing.checks import checks_of

CALLBACKS = [name for name in vars(wrong) if name.endswith("Wrong")]
DATA = [name for name in vars(wrong) if name.endswith("Data") and name != "RightData"]
ALSO = {
    "FitsWrong": {"without-logger"},
    # An order that nobody can repeat cannot be gone on with either.
    "OrderData": {"resume", "workers"},
}


def check_of(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.removesuffix("Wrong").removesuffix("Data")).lower()


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callbacks_mistake_is_caught_by_its_check(caught, name):
    found = caught("callback", f"wrong_callbacks:{name}")
    assert check_of(name) in found
    assert found <= {check_of(name)} | ALSO.get(name, set())


@pytest.mark.parametrize("name", DATA)
def test_a_data_modules_mistake_is_caught_by_its_check(caught, name):
    found = caught("datamodule", f"wrong_callbacks:{name}")
    assert check_of(name) in found
    assert found <= {check_of(name)} | ALSO.get(name, set())


def test_every_check_has_a_mistake():
    assert {check_of(name) for name in CALLBACKS} == {one.name for one in checks_of("callback")}
    assert {check_of(name) for name in DATA} == {one.name for one in checks_of("datamodule")}


@pytest.mark.parametrize(
    ("kind", "name"), [("callback", "Right"), ("datamodule", "RightData"), ("datamodule", "Pairs")]
)
def test_right_ones_pass(outcomes, kind, name):
    found = outcomes(kind, f"wrong_callbacks:{name}")
    assert {one.status for one in found.values()} == {"pass"}, found

"""Each check of objectives catches its mistake, and nothing else does."""

import re

import pytest
import wrong_objectives as wrong

from mscore.testing import Sample, TinyPolicy

NAMES = [name for name in vars(wrong) if name.endswith("Wrong")]


def check_of(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.removesuffix("Wrong")).lower()


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_caught_by_its_check_alone(caught, name):
    assert caught("objective", f"wrong_objectives:{name}") == {check_of(name)}


def test_every_check_has_a_mistake():
    from mscore.testing.checks import ANY, checks_of

    names = {one.name for kind in (ANY, "objective") for one in checks_of(kind)}
    assert {check_of(name) for name in NAMES} == names


@pytest.mark.parametrize("name", ["Right", "StateKept"])
def test_a_right_one_passes_everything(outcomes, name):
    found = outcomes("objective", f"wrong_objectives:{name}")
    assert {one.status for one in found.values()} == {"pass"}, found


def test_one_without_a_loss_is_held_to_the_metrics_alone(outcomes):
    found = outcomes("objective", "wrong_objectives:OnlyMeasures")
    skipped = {name for name, one in found.items() if one.status == "skipped"}
    assert skipped == {"loss", "masked-steps", "nothing-valid", "splitting-the-batch", "bf16-autocast"}
    assert {one.status for one in found.values()} == {"pass", "skipped"}


def test_minestudios_forms_are_accepted(caught):
    # Undocumented, and blind to the mask where it averages: these are told, the forms themselves are not.
    assert caught("objective", "wrong_objectives:Groot") == {"documented", "masked-steps", "metrics-detached"}
    assert caught("objective", "wrong_objectives:Minecraft") == {"documented", "declared-needs"}


def test_what_cannot_be_imported_is_said_once(outcomes):
    found = outcomes("objective", "wrong_objectives:Rihgt")
    assert found["imports"].status == "fail"
    assert "Did you mean 'Right'?" in found["imports"].reason
    assert {one.status for name, one in found.items() if name != "imports"} == {"skipped"}


def test_latents_that_the_kit_lacks_are_asked_for(outcomes):
    found = outcomes("objective", "wrong_objectives:NeedsMore")
    assert "imagination" in found["loss"].reason
    sample = Sample(policy=TinyPolicy)
    assert {one.status for one in outcomes("objective", "wrong_objectives:NeedsMore", sample).values()} == {"pass"}

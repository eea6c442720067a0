"""Each check of environments, trainers, optimizers, schedulers and loggers catches its mistake."""

import pytest
import wrong_parts

from mscore.testing.checks import checks_of

KINDS = ("environment", "trainer", "optimizer", "scheduler", "logger")
CASES = [
    (kind, name, name.removesuffix(kind.capitalize()).lower())
    for kind in KINDS
    for name in vars(wrong_parts)
    if name.endswith(kind.capitalize())
    and name not in ("Environment", "TinyEnvironment", "NoEnvironment", "Trainer", "Logger")
    and not name.startswith("Right")
]
ALSO = {
    # gymnasium's check_env asks for reproducible resets, too, and for spaces of which it knows how to sample.
    "SeedsEnvironment": {"gymnasium", "independent"},
    "GymnasiumEnvironment": {"expert", "vector"},
    "SpacesEnvironment": {"expert", "vector", "gymnasium", "success", "seeds", "independent"},
    "IndependentEnvironment": {"gymnasium", "seeds"},
    "ExpertEnvironment": set(),
    "CheckpointTrainer": set(),
}
ADVICE = {"documented", "misspelt-parameter", "parameters-typed"}


@pytest.mark.parametrize(("kind", "name", "check"), CASES)
def test_a_mistake_is_caught_by_its_check(caught, kind, name, check):
    found = caught(kind, f"wrong_parts:{name}") - ADVICE
    assert check in found
    assert found <= {check} | ALSO.get(name, set())


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_mistake(kind):
    assert {check for one, _, check in CASES if one == kind} == {one.name for one in checks_of(kind)}


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("environment", "wrong_parts:RightEnvironment"),
        ("trainer", "wrong_parts:RightTrainer"),
        ("trainer", "mscore.offline.trainer:OfflineTrainer"),
        ("optimizer", "mscore.offline.optimizers:adamw"),
        ("scheduler", "mscore.offline.optimizers:LinearWarmup"),
        ("scheduler", "torch.optim.lr_scheduler:CosineAnnealingWarmRestarts"),
        ("logger", "wrong_parts:RightLogger"),
        ("logger", "mscore.offline.csv_logger:CSVLogger"),
    ],
)
def test_right_ones_pass(caught, kind, target):
    sample = {"T_0": 2} if target.endswith("Restarts") else None
    assert caught(kind, target, sample) - ADVICE == set()


def test_what_needs_a_package_that_is_not_there_is_skipped_with_its_words(outcomes):
    found = outcomes("environment", "wrong_parts:RightWithoutItsPackage")
    assert found["gymnasium"].status == found["vector"].status == "skipped"
    assert found["gymnasium"].reason == "it needs a game; pip install no_such_game"
    assert found["picklable"].status == "pass"
    found = outcomes("environment", "wrong_parts:RightButRefusing")
    assert (found["gymnasium"].status, found["gymnasium"].reason) == ("fail", "it raised MscoreError: no game today")

"""``requires:`` is held against what is installed, with one line for each that is not met."""

from importlib.metadata import version

import pytest


def lines(problems, *requirements):
    listed = "".join(f"- {one}\n" for one in requirements)
    return problems(f"policy: walker\nrequires:\n{listed}")


def test_what_is_met_says_nothing_and_is_kept(problems, plugins):
    from mscore.config import load_config

    assert lines(problems, "mscore>=0.1,<1", "pluggy", "nothere; python_version < '3'") == []
    config = load_config("config.yaml", plugins=plugins)
    assert config.requires == ("mscore>=0.1,<1", "pluggy", "nothere; python_version < '3'")
    assert load_config(config.resolved, plugins=plugins) == config


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("pluggy>=99", f'pluggy {version("pluggy")} is installed, needed is >=99: pip install "pluggy>=99"'),
        ("not-there<2", 'not-there is not installed: pip install "not-there<2"'),
        ("not-there", "not-there is not installed: pip install not-there"),
        ("kl 0.1", "found 'kl 0.1' (text), expected a requirement such as 'mscore>=0.1,<1': "),
        ("3", "found 3 (integer), expected a requirement"),
    ],
)
def test_what_is_not_met_is_one_line(problems, requirement, problem):
    (line,) = lines(problems, "mscore", requirement)
    assert line.startswith(f"config.yaml:4: requires[1]: {problem}")


def test_every_one_is_said_with_the_other_mistakes(problems):
    found = problems("policy: walkr\nrequires: [not-there, pluggy>=99]\n")
    assert len(found) == 3
    assert problems("policy: walker\nrequires: pluggy\n")[0].startswith(
        "config.yaml:2: requires: found 'pluggy' (text), expected a list of requirements"
    )


def test_a_stage_may_require_its_own(problems):
    found = problems("policy: walker\nstages:\n- requires: [not-there]\n- seed: 2\n")
    assert found == ["config.yaml:3: stages[0].requires[0]: not-there is not installed: pip install not-there"]


def test_an_extra_that_is_not_installed(problems, monkeypatch, tmp_path):
    info = tmp_path / "site" / "some_tool-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-tool\nVersion: 1.0\nProvides-Extra: fast\n"
        "Requires-Dist: pluggy\nRequires-Dist: not-there>=2; extra == 'fast'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert lines(problems, "some-tool>=1") == []
    assert lines(problems, "some-tool[fast]")[0].endswith(
        'not-there>=2 is not installed, which some-tool[fast] needs: pip install "some-tool[fast]"'
    )

"""What authors call: pytest items, plugins without discovery, the command, and the notes on exceptions."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from gymnasium import spaces

import mscore
from mscore.cli.program import program
from mscore.errors import MscoreError, PluginError
from mscore.hookspecs import hookimpl
from mscore.plugins import installed_plugins
from mscore.testing import TinyDataModule, TinyPolicy, isolated_plugins, tiny_batch

pytest_plugins = ("pytester",)

SUITE = """
from mscore.testing import conformance

test_conformance = conformance("kl", expected_failures={expected!r})
"""


def run_suite(pytester, expected):
    pytester.makepyfile(SUITE.format(expected=expected))
    return pytester.runpytest("-q", "-p", "no:cacheprovider", "-k", "objective/kl/loss or objective/kl/metrics")


def test_each_check_is_an_item(pytester):
    run_suite(pytester, {}).assert_outcomes(passed=3)


def test_an_expected_failure_that_passes_fails(pytester):
    result = run_suite(pytester, {"objective/kl/loss": "it is too good"})
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*it is too good*"])


@pytest.mark.parametrize(
    ("expected", "said"),
    [({"objective/kl/los": "why"}, "Did you mean 'objective/kl/loss'"), ({"objective/kl/loss": " "}, "say why")],
)
def test_an_expected_failure_must_exist_and_have_a_reason(expected, said):
    from mscore.testing import conformance

    with pytest.raises(MscoreError, match=said):
        conformance("kl", expected_failures=expected)


def test_a_sample_must_be_for_something():
    from mscore.testing import conformance

    with pytest.raises(MscoreError, match="Did you mean 'objective/kl'"):
        conformance("kl", samples={"objective/kll": {}})


def test_the_kit_needs_no_pytest():
    code = (
        "import sys\nfrom mscore.testing import check_plugin\n"
        "print([one.status for one in check_plugin('bc')], 'pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'pass'" in done.stdout
    assert done.stdout.strip().endswith("False")


def command(*arguments):
    return CliRunner().invoke(program, ["plugins", "check", *arguments])


def test_the_command_tells_what_was_checked(tmp_path):
    result = command("mscore-plugin-kl", "--verbose")
    assert result.exit_code == 0, result.output
    assert "objective/kl/masked-steps" in result.output
    assert "failed" not in result.output
    samples = tmp_path / "samples.yaml"
    samples.write_text("objective/kl: {weight: -1.0}\n")
    checks = json.loads(command("kl", "--json", "--samples", str(samples)).output)["checks"]
    assert {one["status"] for one in checks} == {"pass", "skipped"}


def test_a_failing_check_is_an_exit_code(tmp_path):
    samples = tmp_path / "samples.yaml"
    samples.write_text("objective/kl: {weihgt: 1.0}\n")
    result = command("kl", "--samples", str(samples))
    assert result.exit_code == 1
    assert "Did you mean" in result.output
    assert "To mend it" in result.output


def test_an_unknown_plugin_is_answered_with_the_nearest():
    result = command("kll")
    assert isinstance(result.exception, PluginError)
    assert "Did you mean 'kl'" in str(result.exception)


def test_isolated_plugins_are_all_there_are():
    before = [one.name for one in installed_plugins()]

    def hook():
        return {"tiny": "mscore.testing:TinyPolicy"}

    module = ModuleType("acme")
    module.mscore_policies = hookimpl(hook)
    with isolated_plugins(acme=module):
        assert [one.name for one in installed_plugins()] == ["mscore", "acme"]
        installed_plugins.cache_clear()
        assert [one.name for one in installed_plugins()] == ["mscore", "acme"]
    assert [one.name for one in installed_plugins()] == before
    with pytest.raises(PluginError, match="implements none"), isolated_plugins(acme=ModuleType("empty")):
        pass


@pytest.mark.parametrize(
    "space",
    [
        mscore.minecraft_action_space(),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.Box(-1.0, 1.0, (2,))})}),
    ],
)
def test_tiny_parts_fit_any_spaces(space):
    picture = spaces.Box(0, 255, (4, 4, 3), "uint8")
    seen = spaces.Dict({"image": picture, "text": spaces.Text(9), "n": spaces.Discrete(3)})
    batch = tiny_batch(2, 3, space, observation_space=seen)
    assert batch["image"].dtype == torch.uint8
    assert len(batch["text"][1]) == 3
    policy = TinyPolicy(space, observation_space=seen, kl_latents=True)
    latents, _ = policy(batch, None)
    assert latents["posterior_dist"]["mu"].shape == (2, 3, 3)
    assert policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"]).shape == (2, 3)
    data = TinyDataModule(action_space=space)
    data.setup()
    assert next(iter(data.train_dataloader()))["mask"].shape == (2, 3)


def test_an_exception_says_whose_code_raised_it(monkeypatch):
    from mscore_plugin_kl import KLDivergenceCallback

    namespace = {"__name__": "mscore_plugin_kl.objective"}
    exec("def kl_divergence(self, *arguments):\n    raise ValueError('no variance')", namespace)
    monkeypatch.setattr(KLDivergenceCallback, "kl_divergence", namespace["kl_divergence"])
    module = mscore.MineLightning(TinyPolicy(kl_latents=True), [KLDivergenceCallback()])
    with pytest.raises(ValueError, match="no variance") as caught:
        module.training_step(tiny_batch(), 0)
    notes = " ".join(caught.value.__notes__)
    assert "objective 'kl' of plugin 'kl' (mscore-plugin-kl 0.1.0): kl_divergence" in notes


def test_the_page_lists_every_check():
    from mscore.testing.checks import all_kinds, checks_of

    page = (Path(__file__).parents[2] / "docs" / "plugins" / "testing.md").read_text()
    for kind in all_kinds():
        for one in checks_of(kind):
            assert f"| `{one.name}` | {one.promise}{' (advice)' * one.advice} |" in page, one
    rows = page.partition("## The checks")[2].count("\n| `")
    assert rows == sum(len(checks_of(kind)) for kind in all_kinds())

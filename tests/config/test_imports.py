"""Pass one is quick and light: checked in fresh interpreters, with a plugin that is really installed."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

CONFIG = """
defaults: [base.yaml]
policy: {use: stroller, hiddim: 64}
objectives: {walk: {weight: "${seed}"}}
callbacks: {early-stopping: {monitor: train/loss}}
trainer: {max_steps: 10}
"""


@pytest.fixture
def python(tmp_path):
    """Runs code in a fresh interpreter in a folder with a config, a plugin on its path."""
    site = tmp_path / "site"
    (site / "stroll-1.0.dist-info").mkdir(parents=True)
    (site / "stroll-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stroll\nVersion: 1.0\n")
    (site / "stroll-1.0.dist-info" / "entry_points.txt").write_text("[mscore]\nstroll = stroll\n")
    (site / "stroll.py").write_text(
        textwrap.dedent(
            """
            from mscore import hookimpl

            @hookimpl
            def mscore_policies():
                return {"stroller": "stroll_policy:Stroller"}

            @hookimpl
            def mscore_objectives():
                return {"walk": "stroll_policy:Walk"}
            """
        )
    )
    (site / "stroll_policy.py").write_text("import torch\nclass Stroller:\n    pass\nclass Walk:\n    pass\n")
    (tmp_path / "base.yaml").write_text("seed: 3\n")
    (tmp_path / "config.yaml").write_text(CONFIG)

    def run(code):
        environment = {**os.environ, "PYTHONPATH": str(site), "MSCORE_PLUGINS": "stroll"}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_pass_one_imports_nothing_heavy(python):
    loaded = python(
        """
        import json, sys
        from mscore.config import RunConfig, load_config
        from mscore.errors import ConfigError
        config = load_config("config.yaml")
        assert config.objectives[0].parameters == {"weight": 3}
        try:
            load_config("config.yaml", ["policy=strollr"])
        except ConfigError as error:
            assert "Did you mean 'stroller'?" in str(error)
        else:
            raise AssertionError
        print(json.dumps(sorted(sys.modules)))
        """
    )
    heavy = {"torch", "lightning", "pydantic", "gymnasium", "numpy", "stroll_policy"}
    assert heavy.isdisjoint(loaded)
    assert "omegaconf" in loaded


def test_omegaconf_is_imported_only_to_interpolate(python):
    assert python(
        """
        import json, sys
        from mscore.config import load_config
        load_config({"policy": "stroller"})
        print(json.dumps("omegaconf" not in sys.modules))
        """
    )


def test_pass_one_is_quick(python):
    seconds = min(
        python(
            """
            import json, time
            from mscore.config import load_config
            load_config("config.yaml")
            print(json.dumps(time.process_time()))
            """
        )
        for _ in range(3)
    )
    # Interpreter and imports included; about 0.2 s of CPU here, and machines differ.
    assert seconds < 0.6


def test_pass_two_imports_what_the_config_names(python):
    loaded = python(
        """
        import json, sys
        from mscore.config import check_parameters, load_config
        from mscore.errors import ConfigError
        try:
            check_parameters(load_config("config.yaml", ["trainer=offline"]))
        except ConfigError as error:
            assert "policy.hiddim: unknown parameter, policy 'stroller' takes none" in str(error), error
        print(json.dumps(sorted(sys.modules)))
        """
    )
    assert {"torch", "stroll_policy", "pydantic"} <= set(loaded)

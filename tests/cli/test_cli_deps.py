"""What a config needs, and what is installed, in the words of pip."""

import json

import pytest

HOOK = "from mscore import hookimpl\n@hookimpl\n"


def deps(mscore, *arguments, **variables):
    done = mscore("deps", *arguments, "--json", **variables)
    return json.loads(done.stdout), done


def test_the_plugins_of_the_named_components_are_listed(mscore, tmp_path):
    (tmp_path / "work" / "c.yaml").write_text(
        "defaults: [tiny]\nobjectives: {bc: {}, kl/reference-kl: {policy: {use: recurrent}}}\n"
        "loggers: {wandb: {}}\nstages:\n- trainer: {max_steps: 1}\n- callbacks: {twin: {use: ema}}\n"
    )
    found, done = deps(mscore, "c.yaml")
    needed = {one["distribution"]: one for one in found["distributions"]}
    assert {name: one["requirement"] for name, one in needed.items()} == {
        "mscore": "mscore[wandb]>=0.1.0",
        "mscore-plugin-bc": "mscore-plugin-bc>=0.1.0",
        "mscore-plugin-ema": "mscore-plugin-ema>=0.1.0",
        "mscore-plugin-kl": "mscore-plugin-kl>=0.1.0",
        "mscore-plugin-recurrent": "mscore-plugin-recurrent>=0.1.0",
        "mscore-plugin-tiny": "mscore-plugin-tiny>=0.1.0",
    }
    assert needed["mscore-plugin-recurrent"]["needed_for"] == ["objectives.kl/reference-kl.policy"]
    assert needed["mscore-plugin-ema"]["needed_for"] == ["stages[1].callbacks.twin"]
    assert "recipe tiny" in needed["mscore-plugin-tiny"]["needed_for"]
    assert found["command"].startswith('pip install "mscore[wandb]>=0.1.0" "mscore-plugin-bc>=0.1.0" ')
    assert mscore("deps", "c.yaml").stdout == found["command"] + "\n"
    assert done.returncode == 0


WITHOUT_OURS = """
import sys
from mscore import plugins

real = plugins._discover
kept = ("mscore-plugin-tiny", "mscore-plugin-faulty")
plugins._discover = lambda: [one for one in real() if one.distribution in kept]
from mscore.cli.program import run_program

status = run_program(sys.argv[1:])
loaded = {"torch", "lightning", "numpy", "mscore_plugin_tiny.policy"} & set(sys.modules)
assert not loaded, loaded
sys.exit(status)
"""


def test_the_plugins_need_not_be_installed_or_work(python, plugin):
    plugin("faulty", "import nothere\n")
    policy = {"policy": "recurrent", "objectives": {"bc": {}, "faulty": {}}, "callbacks": {"ema": {}}}
    config = python("-c", f"import json; open('c.yaml', 'w').write(json.dumps({policy}))")
    assert config.returncode == 0
    done = python("-c", WITHOUT_OURS, "deps", "c.yaml")
    assert done.stdout == (
        'pip install "mscore>=0.1.0" mscore-plugin-bc mscore-plugin-ema "mscore-plugin-faulty>=0.1.0" '
        "mscore-plugin-recurrent\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = python("-c", WITHOUT_OURS, "deps", "unlock-pickup")
    assert (done.returncode, "pip install mscore-plugin-minigrid" in done.stderr) == (2, True)


def test_what_the_config_requires_stands(mscore, tmp_path):
    (tmp_path / "work" / "c.yaml").write_text(
        "defaults: [tiny]\nrequires:\n- mscore-plugin-tiny>=0.1,<1\n- other\n- mscore[tensorboard]\n"
        "- old; python_version < '3'\n- not a requirement\n"
    )
    found, done = deps(mscore, "c.yaml")
    assert [one["requirement"] for one in found["distributions"]] == [
        *("mscore[tensorboard]>=0.1.0", "mscore-plugin-tiny<1,>=0.1", "other")
    ]
    assert done.returncode == 2
    assert done.stderr.startswith("c.yaml:7: requires[4]: found 'not a requirement' (text), expected a requirement")


def test_names_that_nobody_knows_are_named_with_their_place(mscore, tmp_path):
    (tmp_path / "work" / "c.yaml").write_text("policy: tiny\nobjectives: {bcc: {}, imitate: {reference: {use: nix}}}\n")
    found, done = deps(mscore, "c.yaml")
    assert done.returncode == 2
    assert found["problems"] == done.stderr.splitlines()
    assert found["problems"][0].startswith("c.yaml:2: objectives.bcc: unknown objective 'bcc'. Did you mean 'bc'?")
    assert "objectives.imitate.reference.use: nobody is known to provide a component 'nix'" in found["problems"][1]


def test_a_plugin_file_is_named_beside_the_line(mscore, tmp_path):
    file = tmp_path / "work" / "my_objective.py"
    file.write_text(HOOK + "def mscore_objectives():\n    return {'mine': 'my_objective:Mine'}\n")
    done = mscore("deps", "tiny", "objectives.mine={}", "--plugin-file", file.name)
    assert done.stdout == 'pip install "mscore>=0.1.0" "mscore-plugin-tiny>=0.1.0"\n'
    assert done.stderr == f"and the plugin file {file}, as --plugin-file\n"


DIRECT = {
    "edited": ({"url": "file:///src/edited", "dir_info": {"editable": True}}, "# mscore-plugin-edited==0.1.0 editable"),
    "folder": ({"url": "file:///src/folder", "dir_info": {}}, "# mscore-plugin-folder==0.1.0 from the folder file://"),
    "cloned": (
        {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
        "mscore-plugin-cloned @ git+https://example.org/x.git@abc",
    ),
    "loaded": (
        {"url": "https://example.org/x.whl", "archive_info": {}},
        "mscore-plugin-loaded @ https://example.org/x.whl",
    ),
}


def test_requirements_pin_what_is_installed(mscore, plugin, tmp_path):
    for name, (direct, _) in DIRECT.items():
        plugin(name, HOOK + "def mscore_objectives():\n    return {}\n")
        info = tmp_path / "site" / f"mscore_plugin_{name}-0.1.0.dist-info"
        (info / "direct_url.json").write_text(json.dumps(direct))
    file = tmp_path / "work" / "my_objective.py"
    file.write_text(HOOK + "def mscore_objectives():\n    return {}\n")
    lines = mscore("plugins", "--requirements", "--plugin-file", "my_objective.py").stdout.splitlines()
    assert "mscore-plugin-tiny==0.1.0" in lines
    assert f"# plugin file: {file}" in lines
    for _, expected in DIRECT.values():
        assert [line for line in lines if line.startswith(expected)], (expected, lines)
    listed = {one["distribution"]: one for one in json.loads(mscore("plugins", "--requirements", "--json").stdout)}
    assert listed["mscore-plugin-tiny"]["requirement"] == "mscore-plugin-tiny==0.1.0"
    assert listed["mscore-plugin-edited"]["editable"] is True


@pytest.mark.parametrize("needed", [False, True])
def test_strict_stops_for_a_broken_plugin_that_is_not_needed(mscore, plugin, needed):
    plugin("faulty", "import nothere\n")
    done = mscore("run", "tiny", "--dry-run", *(["--strict"] if needed else []))
    assert done.returncode == (2 if needed else 0)
    (line,) = [
        line for line in done.stderr.splitlines() if "plugin 'faulty' (mscore-plugin-faulty 0.1.0) is broken" in line
    ]
    assert line.startswith("error: " if needed else "warning: ")

import json

import pytest


def test_the_list_says_what_each_plugin_provides(cli):
    code, out, _ = cli("plugins")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "mscore-plugin-tiny" in lines["tiny"]
    assert "policy: tiny" in lines["tiny"]
    assert "optimizers" in lines["mscore"]


def test_the_list_is_available_to_programs(cli):
    _, out, _ = cli("plugins", "--json")
    listed = {plugin["plugin"]: plugin for plugin in json.loads(out)["plugins"]}
    assert listed["tiny"]["components"]["policy"] == ["tiny"]
    assert listed["tiny"]["status"] == "ok"
    assert "adamw" in listed["mscore"]["components"]["optimizer"]


def test_verbose_shows_modules_and_load_times(cli):
    assert "mscore_plugin_tiny" in cli("plugins", "-v")[1]


def test_show_tells_a_components_parameters(cli):
    code, out, _ = cli("plugins", "show", "imitate")
    assert code == 0
    assert "objective imitate (mscore-plugin-tiny 0.1.0, mscore_plugin_tiny.objective:Imitate)" in out
    assert "Cross-entropy with the demonstrated action." in out
    assert ["weight", "float", "1.0", "its", "factor."] in [line.split() for line in out.splitlines()]


def test_what_the_core_supplies_is_not_shown(cli):
    _, out, _ = cli("plugins", "show", "tiny", "--kind", "policy")
    assert "hiddim" in out
    assert "observation_space" not in out


def test_a_name_of_several_kinds_shows_all_of_them_and_the_plugin(cli):
    _, out, _ = cli("plugins", "show", "tiny")
    for heading in ("plugin tiny", "policy tiny", "datamodule tiny"):
        assert heading in out


@pytest.mark.parametrize("name", ["adamw", "mscore/adamw"])
def test_names_may_be_qualified(cli, name):
    assert "optimizer adamw (mscore " in cli("plugins", "show", name)[1]


def test_show_is_available_to_programs(cli):
    _, out, _ = cli("plugins", "show", "imitate", "--json")
    (shown,) = json.loads(out)
    assert shown["qualified"] == "mscore-plugin-tiny/imitate"
    assert shown["parameters"][0] | {"doc": ""} == {
        "name": "weight",
        "type": "float",
        "required": False,
        "default": "1.0",
        "doc": "",
    }
    assert shown["json_schema"]["properties"]["weight"]["type"] == "number"


def test_an_unknown_name_is_answered_with_the_nearest(cli):
    code, _, err = cli("plugins", "show", "imitat")
    assert (code, "Did you mean 'imitate'?" in err) == (2, True)


HOOK = "from mscore import hookimpl\n@hookimpl\n"
BROKEN = {
    "import_error": ("import nothere\n", "No module named 'nothere'"),
    "syntax_error": ("def x(:\n", "SyntaxError"),
    "raising": (HOOK + "def mscore_policies():\n    raise OSError('no disk')\n", "OSError: no disk"),
    "exiting": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "arguments": (HOOK + "def mscore_policies(config):\n    return {}\n", "has no argument 'config'"),
    "misspelt": (HOOK + "def mscore_policy():\n    return {}\n", "unknown hook 'mscore_policy'"),
    "list": (HOOK + "def mscore_policies():\n    return ['a']\n", "returned list, expected a mapping"),
    "api": ("MSCORE_API = 99\n", "upgrade mscore"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_takes_nothing_down(mscore, plugin, fault):
    source, reason = BROKEN[fault]
    plugin("faulty", source)
    listed = mscore("plugins")
    assert (listed.returncode, listed.stderr) == (0, "")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("faulty")]
    assert reason in line
    assert mscore("--help").returncode == 0


def test_a_run_that_needs_a_broken_plugin_stops_with_its_reason(mscore, plugin, tmp_path):
    plugin("faulty", "import nothere\n")
    config = tmp_path / "c.yaml"
    config.write_text("policy: tiny\ndata: tiny\nobjectives: {faulty: {}}\n")
    done = mscore("run", config)
    assert done.returncode == 2
    assert "plugin 'faulty', which cannot be used" in done.stderr
    assert "No module named 'nothere'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_does_not_need_it_goes_on_and_says_so(mscore, plugin):
    plugin("faulty", "import nothere\n")
    done = mscore("run", "tiny", "trainer.max_steps=1")
    assert done.returncode == 0
    assert "warning: plugin 'faulty' (mscore-plugin-faulty 0.1.0) is broken: ModuleNotFoundError" in done.stderr


def test_a_component_that_cannot_be_imported_is_one_line(mscore, plugin, tmp_path):
    source = HOOK + "def mscore_objectives():\n    return {'half': 'mscore_plugin_faulty.loss:Half'}\n"
    plugin("faulty", source, loss="import nothere\n")
    config = tmp_path / "c.yaml"
    config.write_text("policy: tiny\ndata: tiny\nobjectives: {half: {}}\n")
    for arguments in (["run", config], ["plugins", "show", "half"]):
        done = mscore(*arguments)
        assert done.returncode == 2
        assert "'nothere'" in done.stderr
        assert done.stderr.count("\n") == 1

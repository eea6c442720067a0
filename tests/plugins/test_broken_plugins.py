"""Every way in which a plugin can be wrong: it is listed with its reason, and nothing else is affected."""

import json
import re
import subprocess
import sys

import pytest

HOOK = "from mscore import hookimpl\n\n@hookimpl\n"
KL = HOOK + "def mscore_objectives():\n    return {'kl': 'nowhere:Thing'}\n"

BROKEN = {
    "import-error": ("import does_not_exist", "ModuleNotFoundError: No module named 'does_not_exist'"),
    "raises": ("raise OSError('no\\n  driver')", "OSError: no driver"),
    "silent": ("raise ValueError", "ValueError: no message"),
    "syntax-error": ("def broken(:\n    pass", r"SyntaxError: invalid syntax \(.*syntax_error.py, line 1\)"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "misspelt": (
        HOOK + "def mscore_objective():\n    return {}",
        "unknown hook 'mscore_objective'. Did you mean 'mscore_objectives'",
    ),
    "unmarked": (
        "def mscore_objectives():\n    return {}",
        "mscore_objectives is not decorated with @mscore.hookimpl",
    ),
    "unmarked-misspelt": (
        "def mscore_objektives():\n    return {}",
        "mscore_objektives is not decorated with @mscore.hookimpl, and is no hook. Did you mean 'mscore_objectives'",
    ),
    "hookless": ("answer = 42", "implements none of mscore's hooks"),
    "extra-argument": (
        HOOK + "def mscore_objectives(config):\n    return {}",
        "hook mscore_objectives has no argument 'config'; it takes none",
    ),
    "wrong-argument": (
        HOOK + "def mscore_run_finished(run, eror):\n    pass",
        "hook mscore_run_finished has no argument 'eror'; it may take: run, error",
    ),
    "default-value": (
        HOOK + "def mscore_run_finished(run, error=None):\n    pass",
        "argument 'error' of hook mscore_run_finished has a default value; remove it",
    ),
    "raising-hook": (
        HOOK + "def mscore_objectives():\n    raise RuntimeError('boom')",
        "mscore_objectives raised RuntimeError: boom",
    ),
    "exiting-hook": (
        HOOK + "def mscore_objectives():\n    raise SystemExit('enough')",
        "mscore_objectives raised SystemExit: enough",
    ),
    "non-mapping": (
        HOOK + "def mscore_objectives():\n    return ['kl']",
        "mscore_objectives returned list, expected a mapping of name to import string",
    ),
    "none": (
        HOOK + "def mscore_objectives():\n    pass",
        "mscore_objectives returned NoneType, expected a mapping of name to import string",
    ),
    "bad-name": (
        HOOK + "def mscore_objectives():\n    return {'Focal Loss': 'm:C'}",
        "mscore_objectives registers 'Focal Loss'; names are lower-case words joined by hyphens",
    ),
    "number-for-name": (
        HOOK + "def mscore_objectives():\n    return {3: 'm:C'}",
        "mscore_objectives registers 3; names are lower-case words joined by hyphens",
    ),
    "class-for-string": (
        HOOK + "def mscore_objectives():\n    return {'focal': dict}",
        "mscore_objectives registers 'focal' as <class 'dict'>, expected an import string",
    ),
    "path-for-string": (
        HOOK + "def mscore_objectives():\n    return {'focal': 'package/module.py'}",
        "mscore_objectives registers 'focal' as 'package/module.py', expected an import string 'package",
    ),
    "recipes-mapping": (
        HOOK + "def mscore_recipes():\n    return {'a': 'b'}",
        r"mscore_recipes returned dict, expected a package name \(str\)",
    ),
    "recipes-missing": (
        HOOK + "def mscore_recipes():\n    return 'no_such_recipes'",
        "mscore_recipes .*No module named 'no_such_recipes'",
    ),
    "bad-command": (
        HOOK + "def mscore_commands():\n    return {'Data Convert': 'm:C'}",
        "mscore_commands registers 'Data Convert'",
    ),
}


@pytest.fixture(scope="module")
def listed(shared_site):
    for name, (code, _) in BROKEN.items():
        shared_site.add(f"acme-{name}", code, version="1.2", entry=name)
    shared_site.add("acme-good", HOOK + "def mscore_objectives():\n    return {'good': 'nowhere:Thing'}", entry="good")
    shared_site.add("acme-newer", "MSCORE_API = 99\n" + KL, entry="newer")
    shared_site.add("acme-older", "MSCORE_API = 0\n" + KL, entry="older")
    shared_site.add("acme-class", HOOK + "class Plugin:\n    pass", target="acme_class:Plugin", entry="class")
    shared_site.add("acme-gone", KL, target="acme_gone:plugin", entry="gone")
    shared_site.add("acme-missing", "", target="not_shipped", entry="missing")
    return shared_site.plugins()


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_listed_with_its_reason(listed, name):
    plugin = listed[name]
    assert plugin["status"] == "broken"
    assert (plugin["distribution"], plugin["version"]) == (f"acme-{name}", "1.2")
    assert plugin["components"] == {}
    assert re.match(BROKEN[name][1], plugin["reason"])
    assert "\n" not in plugin["reason"]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("newer", "incompatible", "written for plugin API 99, this mscore .* has 1: upgrade mscore"),
        ("older", "incompatible", "written for plugin API 0, this mscore .* has 1"),
        ("class", "broken", ".*'acme_class:Plugin' names a class; name a module, or an instance of the class"),
        ("gone", "broken", "AttributeError: module 'acme_gone' has no attribute 'plugin'"),
        ("missing", "broken", "ModuleNotFoundError: No module named 'not_shipped'"),
    ],
)
def test_other_entry_points_that_cannot_be_used(listed, name, status, reason):
    assert listed[name]["status"] == status
    assert re.match(reason, listed[name]["reason"])


def test_the_others_are_not_affected(listed):
    assert listed["good"]["status"] == "ok"
    assert listed["good"]["components"] == {"objective": {"good": "nowhere:Thing"}}
    assert listed["mscore"]["status"] == "ok"


def test_the_command_line_lists_them_and_succeeds(listed, shared_site):
    done = shared_site.run(
        "import sys; from mscore.cli import main; sys.argv = ['mscore', 'plugins', '--json']; main()"
    )
    assert done.returncode == 0, done.stderr
    shown = {plugin["plugin"]: plugin for plugin in json.loads(done.stdout)["plugins"]}
    for name, plugin in listed.items():
        assert shown[name]["status"] == plugin["status"]
        assert shown[name]["reason"] == plugin["reason"]


def test_a_component_of_a_broken_plugin_is_refused_with_distribution_version_and_reason(listed, shared_site):
    code = """
        import json
        from mscore.components import UnknownComponent, find
        messages = {}
        for name in ("import-error", "raises/anything", "acme-newer/kl", "focal"):
            try:
                find("objective", name)
            except UnknownComponent as error:
                messages[name] = str(error)
        print(json.dumps(messages))
    """
    messages = shared_site.output(code)
    assert messages["import-error"] == (
        "objective 'import-error' is provided by plugin 'import-error', which cannot be used: acme-import-error 1.2 "
        "is installed but broken: ModuleNotFoundError: No module named 'does_not_exist'"
    )
    assert "acme-raises 1.2 is installed but broken: OSError: no driver" in messages["raises/anything"]
    assert "acme-newer 0.1.0 is installed but incompatible: written for plugin API 99" in messages["acme-newer/kl"]
    # Whose 'focal' is cannot be known; everything that could have provided it is named with its reason.
    assert messages["focal"].startswith("unknown objective 'focal'.")
    assert "acme-raises 1.2 (OSError: no driver)" in messages["focal"]


def test_a_plugin_that_breaks_after_registering_leaves_nothing_behind(site):
    site.add("acme-half", KL + HOOK + "def mscore_callbacks():\n    return 3\n", entry="half")
    code = """
        import json
        from mscore.plugins import installed_plugins
        plugins = installed_plugins()
        half = next(p for p in plugins if p.name == "half")
        print(json.dumps([half.status, half.components, plugins.manager.is_registered(half.module)]))
    """
    assert site.output(code) == ["broken", {}, False]


def test_two_entry_points_with_one_module(site):
    """The first keeps its hooks; the second says who has the module."""
    site.add("acme-one", KL + HOOK + "def mscore_run_started(run):\n    print('started')\n", entry="one")
    site.add("acme-two", "", target="acme_one", entry="two")
    code = """
        import json
        from mscore.plugins import installed_plugins
        plugins = installed_plugins()
        one, two = (next(p for p in plugins if p.name == name) for name in ("one", "two"))
        print(json.dumps([one.status, two.status, two.reason, plugins.manager.is_registered(one.module)]))
    """
    assert site.output(code) == [
        "ok", "broken", "its module 'acme_one' is the one of plugin 'one' (acme-one 0.1.0)", True,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["[mscore]\nno equals sign\n", "[mscore\nx = y\n", "[mscore]\nx =\n"])
def test_an_entry_point_file_that_cannot_be_read(site, text):
    site.add("acme-garbled", "", entry_points=text)
    site.add("acme-good", KL, entry="good")
    listed = site.plugins()
    assert listed["good"]["status"] == "ok"
    garbled = [plugin for plugin in listed.values() if plugin["distribution"] == "acme-garbled"]
    assert all(plugin["status"] == "broken" for plugin in garbled)


def test_a_metadata_folder_left_behind(site):
    """An interrupted uninstall leaves a dist-info folder without METADATA."""
    site.add("acme-left", KL, entry="left")
    (site.folder / "acme_left-0.1.0.dist-info" / "METADATA").unlink()
    site.add("acme-good", KL, entry="good")
    listed = site.plugins()
    assert listed["good"]["status"] == "ok"
    assert listed["left"]["status"] == "broken"
    assert "METADATA" in listed["left"]["reason"]


def test_the_help_survives_all_of_them(listed, shared_site):
    done = shared_site.run("import sys; from mscore.cli import main; sys.argv = ['mscore', '--help']; main()")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_pythons_own_interrupt_is_not_swallowed(site):
    site.add("acme-interrupt", "raise KeyboardInterrupt", entry="interrupt")
    assert site.run("from mscore.plugins import installed_plugins; installed_plugins()").returncode != 0


@pytest.mark.slow
def test_a_wheel_that_lacks_its_module(tmp_path, site):
    """The real thing: a distribution built by pip whose entry point names a module it forgot to ship."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "acme-forgot"\nversion = "0.1"\n'
        '[project.entry-points.mscore]\nforgot = "acme_forgot.plugin"\n'
    )
    (source / "acme_forgot").mkdir()
    (source / "acme_forgot" / "__init__.py").write_text("")
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--target", str(target), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    site.folder = target
    assert site.plugins()["forgot"]["reason"] == "ModuleNotFoundError: No module named 'acme_forgot.plugin'"

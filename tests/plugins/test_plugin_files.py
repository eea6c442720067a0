"""A single file as a plugin: its name, its place in the list, and what is said when it is broken."""

import os
import textwrap

import pytest

HOOK = "from mscore import hookimpl\n\n\n@hookimpl\n"
GOOD = HOOK + "def mscore_objectives():\n    return {'focal': 'my_objective:Focal'}\n\n\nclass Focal:\n    pass\n"


@pytest.fixture
def file(tmp_path):
    """Write a Python file into a folder of its own."""
    (tmp_path / "files").mkdir()

    def write(name, code=GOOD):
        path = tmp_path / "files" / name
        path.write_text(textwrap.dedent(code))
        return path

    return write


def error_of(site, *files, **environment):
    """The one line with which a set of plugins refuses files."""
    code = """
        from mscore.errors import PluginError
        from mscore.plugins import installed_plugins
        import json
        try:
            installed_plugins().refuse_failed()
        except PluginError as error:
            print(json.dumps(str(error)))
    """
    return site.output(code, MSCORE_PLUGIN_FILES=os.pathsep.join(map(str, files)), **environment)


def test_a_file_is_a_plugin_under_its_stem(site, file):
    path = file("my_objective.py")
    found = site.output(
        """
        import json
        from mscore.components import find
        from mscore.plugins import installed_plugins
        component = find("objective", "my_objective/focal")
        plugin = component.plugin
        print(json.dumps([component.load().__name__, find("objective", "focal") == component, plugin.name,
                          plugin.version, plugin.file, plugin.label, plugin.status, plugin.provenance()]))
        """,
        MSCORE_PLUGIN_FILES=str(path),
    )
    assert found[:-1] == ["Focal", True, "my_objective", "", str(path), "my_objective.py", "ok"]
    assert (found[-1]["source"], found[-1]["file"], len(found[-1]["sha256"])) == (str(path), str(path), 64)


def test_modules_beside_it_can_be_imported_and_none_of_them_hides_an_installed_one(site, file):
    file("extra_losses.py", "value = 3\n")
    file("textwrap.py", "raise ImportError('this is not the library')\n")
    path = file("my_objective.py", "import extra_losses, textwrap\n" + GOOD)
    assert site.plugins(MSCORE_PLUGIN_FILES=str(path))["my_objective"]["status"] == "ok"


BROKEN = {
    "no_syntax": ("x = 1\ny = (\n", 2, "SyntaxError: '(' was never closed"),
    "no_module": ("import os\nimport not_there\n", 2, "ModuleNotFoundError: No module named 'not_there'"),
    "no_hook": ("x = 1\n", 1, "implements none of mscore's hooks"),
    "no_such_hook": (HOOK + "def mscore_objective():\n    return {}\n", 4, "unknown hook 'mscore_objective'."),
    "raises": (HOOK + "def mscore_objectives():\n    return 1 / 0\n", 6, "raised ZeroDivisionError"),
    "no_argument": (HOOK + "def mscore_objectives(config):\n    return {}\n", 4, "has no argument 'config'"),
    "no_mark": ("\ndef mscore_objectives():\n    return {}\n", 2, "is not decorated with @mscore.hookimpl"),
    "no_string": (
        GOOD.replace("return {'focal': 'my_objective:Focal'}", "return {'focal': Focal}"),
        4,
        "expected an import string 'no_string:Focal'",
    ),
    "deep": ("import json\njson.loads('[')\n", 2, "JSONDecodeError"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_one_line_with_file_and_line(site, file, fault):
    code, line, reason = BROKEN[fault]
    path = file(f"{fault}.py", code)
    said = error_of(site, path)
    assert said.startswith(f"plugin {fault!r} ({fault}.py) is broken: {path}:{line}: ")
    assert reason in said
    assert "\n" not in said
    assert site.plugins(MSCORE_PLUGIN_FILES=str(path))[fault]["status"] == "broken"


def test_a_name_that_something_else_has_is_refused(site, file):
    site.add("mscore-plugin-focal", HOOK + "def mscore_objectives():\n    return {}\n")
    site.add("some-tool", "x = 1\n", entry_points="")
    (site.folder / "some_tool.py").rename(site.folder / "module_of_that_tool.py")
    for name, what in (
        ("focal", "the installed plugin 'focal'"),
        ("torch", "the module 'torch'"),
        ("json", "the module 'json'"),
        ("some_tool", "the installed distribution 'some-tool'"),
    ):
        said = error_of(site, file(f"{name}.py"))
        assert what in said
        assert f"rename the file, such as to my_{name}.py" in said


def test_a_file_that_cannot_be_a_module_is_refused(site, file, tmp_path):
    assert "such as my_objective.py" in error_of(site, file("my-objective.py"))
    assert "such as my_1.py" in error_of(site, file("1.py"))
    assert "such as notes.py" in error_of(site, file("notes.txt"))
    file("my_objective.py")
    near = error_of(site, tmp_path / "files" / "my_objectiv.py")
    assert near.startswith("there is no plugin file ")
    assert "Did you mean 'my_objective.py'" in near
    assert "Nor is there a folder" in error_of(site, tmp_path / "gone" / "my_objective.py")


def test_two_files_of_one_name_are_refused_and_one_file_named_twice_is_not(site, file, tmp_path):
    path = file("my_objective.py")
    other = tmp_path / "other" / "my_objective.py"
    other.parent.mkdir()
    other.write_text(GOOD)
    assert "have one name; rename one of them" in error_of(site, path, other)
    assert site.plugins(MSCORE_PLUGIN_FILES=f"{path}{os.pathsep}{path}")["my_objective"]["status"] == "ok"


def test_a_file_is_blocked_by_name_and_not_by_the_list_of_installed_plugins(site, file):
    path = str(file("my_objective.py"))
    blocked = site.plugins(MSCORE_PLUGIN_FILES=path, MSCORE_DISABLE_PLUGINS="my_objective")["my_objective"]
    assert blocked["status"] == "blocked"
    listed = site.plugins(MSCORE_PLUGIN_FILES=path, MSCORE_PLUGINS="bc")
    assert (listed["my_objective"]["status"], listed["ema"]["status"]) == ("ok", "blocked")


def test_a_name_that_an_installed_plugin_registers_too_has_to_be_qualified(site, file):
    path = file("my_objective.py", GOOD.replace("'focal'", "'bc'"))
    said = site.output(
        """
        import json
        from mscore.components import AmbiguousComponent, find
        try:
            find("objective", "bc")
        except AmbiguousComponent as error:
            print(json.dumps([str(error), find("objective", "my_objective/bc").target]))
        """,
        MSCORE_PLUGIN_FILES=str(path),
    )
    assert said[0].endswith("and my_objective.py; write 'bc/bc' or 'my_objective/bc'")
    assert said[1] == "my_objective:Focal"


def test_an_import_string_of_another_module_says_what_the_files_own_are(site, file):
    path = file("my_objective.py", GOOD.replace("my_objective:", "my_objectives:"))
    said = site.output(
        """
        import json
        from mscore.components import UnimportableComponent, find
        try:
            find("objective", "focal").load()
        except UnimportableComponent as error:
            print(json.dumps(str(error)))
        """,
        MSCORE_PLUGIN_FILES=str(path),
    )
    assert "no module 'my_objectives'" in said
    assert said.endswith("the file's own names are my_objective:NAME")

"""The packages of the repository, and the arrows between the core's rooms."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import mscore
from mscore.components import plugin_directory
from mscore.hookspecs import KIND_OF_HOOK
from mscore.plugins import installed_plugins

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file())
HEAVY = {
    "torch",
    "lightning",
    "numpy",
    "gymnasium",
    "omegaconf",
    "pydantic",
    "minigrid",
    "av",
    "cv2",
    "lmdb",
    "minari",
    "crafter",
}

every_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def module_of(folder):
    return folder.name.replace("-", "_")


def plugin_of(folder):
    (found,) = [plugin for plugin in installed_plugins() if plugin.distribution == folder.name]
    return found


# --- each plugin's folder ---------------------------------------------------------------------------


def test_there_are_plugins():
    assert len(PLUGINS) >= 7


@every_plugin
def test_a_plugin_is_a_complete_package(folder):
    module = folder / module_of(folder)
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert list((folder / "tests").glob("test_*.py")), "no tests"
    assert (module / "py.typed").is_file()
    assert (module / "__init__.py").is_file()


@every_plugin
def test_a_plugins_metadata_is_ready_to_publish(folder):
    data = project(folder)
    assert data["name"] == folder.name
    assert data["license"] == "MIT"
    assert data["license-files"] == ["LICENSE"]
    assert data["readme"] == "README.md"
    assert data["requires-python"] == project(ROOT)["requires-python"]
    assert data["description"].endswith(".")
    assert len(data["description"]) < 120
    assert data["entry-points"] == {"mscore": {folder.name.removeprefix("mscore-plugin-"): module_of(folder)}}


@every_plugin
def test_a_plugins_dependencies_are_bounded(folder):
    needed = {requirement.name: requirement for requirement in map(Requirement, project(folder)["dependencies"])}
    bounds = needed["mscore"].specifier
    assert mscore.__version__ in bounds
    assert "1.0.0" not in bounds
    for requirement in needed.values():
        operators = {one.operator for one in requirement.specifier}
        assert "==" not in operators, requirement
        if requirement.name in ("torch", "lightning", "pytorch-lightning"):
            # The core brings them, and which version is the user's choice; a plugin may need a recent one.
            assert operators <= {">="}, requirement
        else:
            assert operators & {"<", "<=", "~="}, f"{requirement} has no upper bound"


@every_plugin
def test_a_plugins_readme_says_how_to_install_and_use_it(folder):
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {folder.name}\n")
    assert re.search(rf"pip install \"?{folder.name}\b", text)
    snippets = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert snippets, "no YAML"
    used = json.dumps(snippets)
    components = plugin_of(folder).components
    for kind in components:
        for name in plugin_of(folder).names(kind):
            if kind not in ("recipe", "command"):
                assert f'"{name}"' in used, f"no YAML uses {kind} {name!r}"
            assert f"`{name}`" in text or f'"{name}"' in used or name in text


@every_plugin
def test_the_names_that_a_plugin_exports_are_in_its_readme(folder):
    module = __import__(module_of(folder))
    text = (folder / "README.md").read_text()
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert re.search(rf"\b{name}\b", text), f"{name} is exported and not in the README"


@every_plugin
def test_loading_a_plugin_imports_nothing_heavy(folder):
    code = f"import sys, json, {module_of(folder)} as m; [getattr(m, h)() for h in dir(m) if h.startswith('mscore_')]"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(json.dumps(sorted(sys.modules)))"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert loaded & HEAVY == set()
    parts = {name for name in loaded if name.startswith(module_of(folder) + ".")}
    assert all(name.endswith(".recipes") for name in parts), "the entry-point module imports the implementation"


@every_plugin
def test_everything_that_a_plugin_registers_can_be_imported(folder):
    from mscore.components import components

    mine = [
        component
        for kind in KIND_OF_HOOK.values()
        if kind != "recipe"
        for component in components(kind)
        if component.plugin.distribution == folder.name
    ]
    for component in mine:
        assert component.load().__doc__, component.qualified


def test_the_plugin_directory_says_what_the_plugins_register():
    listed = {entry["distribution"]: entry for entry in plugin_directory()}
    assert list(listed) == sorted(listed)
    for folder in PLUGINS:
        plugin = plugin_of(folder)
        assert listed[folder.name]["provides"] == {
            kind: plugin.names(kind) for kind in sorted(plugin.components) if plugin.names(kind)
        }
        assert listed[folder.name]["summary"]


def test_the_page_of_the_directory_has_its_rows():
    rows = [
        "| `{}` | {} | {} |".format(
            entry["distribution"],
            entry["summary"],
            "; ".join(
                f"{kind}: {', '.join(f'`{name}`' for name in names)}" for kind, names in entry["provides"].items()
            ),
        )
        for entry in plugin_directory()
    ]
    page = (ROOT / "docs" / "plugins" / "directory.md").read_text()
    assert re.findall(r"^\| `mscore.*$", page, re.MULTILINE) == rows


def test_entry_points_are_in_one_group():
    ours = {"mscore", *(folder.name for folder in PLUGINS)}
    groups = {point.group for name in ours for point in distribution(name).entry_points}
    assert groups == {"mscore", "console_scripts", "torch.backends"}
    assert [point.group for point in distribution("mscore").entry_points] == ["console_scripts", "torch.backends"]


# --- the core's arrows ------------------------------------------------------------------------------

RANKS = ["heads", "contracts", "evaluation", "offline", "runs", "cli"]
"""The rooms in the order in which they may use each other: a room imports those before it."""

BESIDE = {"template": "heads", "testing": "runs", "trajectories": "offline"}
"""Rooms beside the line, and the last room on it that they may use."""

EVERYWHERE = {
    *("builtin", "components", "config", "deprecation", "entry_points", "errors", "hookspecs"),
    *("plugin_files", "plugins", "registrations", "torchvision_ops", "tree"),
}


@cache
def sources():
    return sorted((ROOT / "mscore").rglob("*.py"))


def room_of(path):
    parts = path.relative_to(ROOT / "mscore").with_suffix("").parts
    return parts[0]


def imported(tree):
    """Rooms that a file imports at run time, at its top or within functions; type checkers' imports do not count."""
    found = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node):
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)
            for child in node.orelse:
                self.visit(child)

        def visit_Import(self, node):
            found.update((name.name, node.lineno) for name in node.names)

        def visit_ImportFrom(self, node):
            assert node.level == 0, "imports are absolute"
            found.add((node.module, node.lineno))
            if node.module == "mscore":
                found.update((f"mscore.{name.name}", node.lineno) for name in node.names)

    Visitor().visit(tree)
    rooms = {(name.split(".")[1], line) for name, line in found if name.startswith("mscore.")}
    return {(room, line) for room, line in rooms if (ROOT / "mscore" / room).is_dir() or room in EVERYWHERE}


def lazily_named(tree):
    """Modules that a ``_LAZY`` table (or the static table of components) names."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text.partition(":")[0] for text in texts if re.fullmatch(r"mscore(\.\w+)+(:\w+)?", text)}


def allowed(room):
    last = BESIDE.get(room, room)
    more = {"template", "testing"} if room == "cli" else set()
    return {*RANKS[: RANKS.index(last) + 1], room} | more | EVERYWHERE


def test_every_room_has_a_place():
    rooms = {path.name for path in (ROOT / "mscore").iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= {*RANKS, *BESIDE, *EVERYWHERE}, "say in this test which rooms the new one may use"
    modules = {path.stem for path in (ROOT / "mscore").glob("*.py")} - {"__init__", "__main__"}
    assert modules <= EVERYWHERE | {"testing"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    room = room_of(path)
    tree = ast.parse(path.read_text())
    if room in ("__init__", "__main__"):
        return
    names = imported(tree)
    if room in EVERYWHERE:
        # What everything may use may itself use no room, except that names are looked up lazily.
        upward = {(name, line) for name, line in names if name in RANKS and name not in ("heads", "contracts")}
    else:
        upward = {(name, line) for name, line in names if name not in allowed(room)}
    assert upward == set(), f"{path.relative_to(ROOT)} imports what lies above it"


def test_the_core_imports_and_names_no_plugin():
    known = [entry["distribution"] for entry in plugin_directory()]
    names = {name for entry in plugin_directory() for names in entry["provides"].values() for name in names}
    quoted = re.compile(rf"(?:[`'\"(]|such as )({'|'.join(sorted(map(re.escape, names)))})[`'\"),]")
    wrong = []
    for path in sources():
        tree = ast.parse(path.read_text())
        docs = {id(text) for text in map(docstring, ast.walk(tree)) if text is not None}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                wrong += [
                    f"{path.name}:{node.lineno} imports {name}" for name in modules if "mscore_plugin" in str(name)
                ]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                text = node.value
                if (
                    "mscore_plugin_" in text
                    or any(name in text for name in known)
                    or text in names
                    or quoted.search(text)
                ):
                    wrong.append(f"{path.name}:{node.lineno} names a plugin: {text!r}")
    assert wrong == []


def docstring(node):
    """The constant that documents a node: as its first statement, or as a string that follows an assignment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value
    return None


@pytest.mark.parametrize("folder", [*PLUGINS], ids=lambda path: path.name)
def test_a_plugin_imports_public_names_only(folder):
    needed = {Requirement(text).name.replace("-", "_") for text in project(folder)["dependencies"]}
    for path in (folder / module_of(folder)).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            for name in modules:
                parts = name.split(".")
                if parts[0].startswith("mscore_plugin") and parts[0] != module_of(folder):
                    # A policy may be built from the parts that another package offers, if it says that it needs it.
                    assert parts[0] in needed, f"{path.name}:{node.lineno} imports another plugin: {name}"
                    exported = __import__(parts[0]).__all__
                    assert set(parts[1:2]) <= set(exported), f"{path.name}:{node.lineno}: {name} is not exported"
                if parts[0] == "mscore":
                    assert not any(part.startswith("_") for part in parts), name

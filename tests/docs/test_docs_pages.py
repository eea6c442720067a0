"""The pages keep what they say: configs load, commands parse, Python imports, links lead somewhere."""

import ast
import importlib
import os
import re
import subprocess
import sys

import click
import pytest
import yaml

from mscore.cli.program import program
from mscore.config import check_parameters, load_config
from mscore.config.grammar import SECTIONS
from mscore.errors import ConfigError

FRAGMENT = "<!-- fragment -->"
RUNS = "<!-- runs -->"

CHEAP = (["--help"], ["--version"], ["plugins"], ["recipes"], ["plugins", "show"])
"""Commands that import no torch, or just a component: these are run, the others are parsed."""


def test_a_config_of_a_page_is_right(yaml_block, tmp_path, monkeypatch):
    if FRAGMENT in yaml_block.before or (yaml_block.file or "").startswith("mscore_plugin_"):
        return  # files of a package are installed and run by another test
    content = yaml.safe_load(yaml_block.text.replace("…", "null"))
    if not isinstance(content, dict) or not set(content) <= {*SECTIONS, "defaults"}:
        pytest.fail(f"{yaml_block.place} is no part of a config; write {FRAGMENT} in the line before it")
    if "defaults" in content:
        for name in [name for name in content["defaults"] if name.endswith(".yaml")]:  # others are recipes
            included = tmp_path / "folder" / name
            included.parent.mkdir(parents=True, exist_ok=True)
            included.write_text("loggers: {tensorboard: {}}\ncallbacks: {ema: {}}\n")
    added = ""
    if "policy" not in content:
        added += "policy: recurrent\n"
    if "evaluation" in content and "environment" not in content:
        added += "environment: {use: minigrid, env: BabyAI-GoToRedBallGrey-v0}\n"
    file = tmp_path / "folder" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(added + yaml_block.text)
    monkeypatch.chdir(file.parent)
    if yaml_block.page.parent.name == "hooks":
        return  # its components are made on these pages, and used by the test of those
    try:
        check_parameters(load_config("config.yaml"))
    except ConfigError as error:
        # The policy that this test adds to a fragment need not fit the fragment's objectives.
        if not ("policy" not in content and all("needs the latents" in problem for problem in error.problems)):
            raise


def test_a_python_block_compiles_and_its_imports_exist(python_block):
    if "…" in python_block.text or FRAGMENT in python_block.before:
        text = python_block.text.replace("…", "...")
    else:
        text = python_block.text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("mscore"):
            continue
        if node.module.startswith(("mscore_plugin_lab", "mscore_plugin_focal", "mscore_plugin_poly")):
            continue  # made on the page
        module = importlib.import_module(node.module)
        for name in node.names:
            assert hasattr(module, name.name), f"{python_block.place}: {node.module} has no {name.name}"


def test_a_python_block_that_runs(python_block, tmp_path):
    if RUNS not in python_block.before:
        return
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", python_block.text],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{python_block.place}\n{done.stderr}"


def parse(arguments):
    """Parse a command line as the program does, without calling it.

    Raises:
        click.UsageError: an unknown command or option, or a wrong value.
    """
    context = program.make_context("mscore", list(arguments))
    while isinstance(context.command, click.Group):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return
        name, command, rest = context.command.resolve_command(context, rest)
        if context.command.invoke_without_command and command is None:
            return
        context = command.make_context(name, rest, parent=context)


def test_commands_of_a_page_parse(command_block, monkeypatch):
    for variable in ("MSCORE_DISABLE_PLUGINS", "MSCORE_PLUGIN_FILES", "MSCORE_TRACEBACK"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # what an option sets is undone after the test
    monkeypatch.setenv("COLUMNS", "120")
    for arguments in command_block.commands():
        if arguments[:1] == ["lab"]:
            continue  # the command of the plugin that the page makes
        try:
            parse([word for word in arguments if word != "…"])
        except click.exceptions.Exit:
            pass
        except click.ClickException as error:
            pytest.fail(f"{command_block.place}: mscore {' '.join(arguments)}: {error.format_message()}")


def test_a_wrong_command_would_be_found():
    for arguments in (["runn", "x"], ["run", "x", "--dry"], ["evaluate", "x", "--episodes", "0"], ["plugins", "sow"]):
        with pytest.raises(click.UsageError):
            parse(arguments)


def test_the_cheap_commands_work(blocks, root, tmp_path):
    pages = ["README.md", *(str(path.relative_to(root)) for path in (root / "docs").rglob("*.md"))]
    commands = {tuple(command) for page in pages for block in blocks(page) for command in block.commands()}
    made_here = {"lab", "focal", "entropy", "poly"}
    cheap = [
        command
        for command in sorted(commands)
        if is_cheap(command) and not made_here & set(command) and "NAME" not in command
    ]
    assert len(cheap) >= 3
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    for command in cheap:
        done = subprocess.run(
            [sys.executable, "-m", "mscore", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"mscore {' '.join(command)}: {done.stderr}"
        assert done.stdout


def is_cheap(command):
    words = [word for word in command if not word.startswith("-") or word in ("--help", "--version")]
    return words in [list(one) for one in CHEAP[:4]] or words[:2] == CHEAP[4]


def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}; there are {sorted(anchors(file))}"


def anchors(page):
    """Anchors of a page's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_index_and_the_readme(root):
    names = {path.name for path in (root / "docs").glob("*.md")} - {"index.md"}
    for page in ("docs/index.md", "README.md"):
        text = (root / page).read_text()
        assert {name for name in names if name not in text} == set(), page


@pytest.mark.parametrize("folder", ["plugins", "plugins/hooks"])
def test_every_page_for_authors_is_linked_from_its_folders_index(root, folder):
    index = (root / "docs" / folder / "index.md").read_text()
    names = {path.name for path in (root / "docs" / folder).glob("*.md")} - {"index.md"}
    assert {name for name in names if f"({name})" not in index} == set()


def test_every_command_has_a_guide(root):
    from mscore.cli.commands import BUILTIN

    text = "\n".join(path.read_text() for path in (root / "docs").rglob("*.md"))
    for path in BUILTIN:
        assert re.search(rf"\bmscore {path}\b", text), f"no page shows `mscore {path}`"


def test_no_machine_is_in_the_files(text_files, root):
    home = re.compile(r"(?<![\w./~-])/(work|home|root|Users)/\w")
    # Which index packages come from is the user's own setting.
    index = re.compile(
        r"https?://[\w.:-]+/(?:[\w-]+/)*simple\b|--(?:extra-)?index-url|pypi\.org|:\d{4}/(?:simple|root)"
    )
    found = []
    for path in text_files:
        if path == root / "tests" / "docs" / "test_docs_pages.py":
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if home.search(line) or index.search(line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_nothing_is_left_to_do(text_files, root):
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    found = [path.relative_to(root) for path in text_files if marks.search(path.read_text(errors="replace"))]
    assert found == []


def test_the_import_lines_for_people_from_minestudio(root):
    page = (root / "docs" / "minestudio.md").read_text()
    lines = re.findall(r"^\| `from minestudio[^`]*` \| `(from [^`]*)` \| `([\w-]+)` \|$", page, re.MULTILINE)
    assert len(lines) >= 10
    for line, distribution in lines:
        exec(line, {})
        assert line.split()[1].split(".")[0] == distribution.replace("-", "_")
    readme = (root / "README.md").read_text()
    rows = re.findall(r"^\| (`minestudio[^|]*) \| `(mscore\w*(?:\.\w+)?)` \|$", readme, re.MULTILINE)
    assert len(rows) >= 7
    for left, module in rows:
        names = re.findall(r"`(\w+)`", left)
        assert names
        for name in names:
            assert hasattr(importlib.import_module(module), name), (module, name)


def test_the_readmes_mistake_is_answered_as_it_says(blocks, tmp_path):
    (block,) = [block for block in blocks("README.md") if block.language == "console"]
    (command,) = block.commands()
    done = subprocess.run([sys.executable, "-m", "mscore", *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == block.text.partition("\n")[2]
    assert list(tmp_path.iterdir()) == []

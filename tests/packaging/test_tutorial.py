"""The tutorial's files are written and its commands typed, in their order, where only wheels are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins" / "tutorial.md"
NOT_RUN = "<!-- not run -->"

_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n+```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"`([\w./-]+\.(?:py|yaml))`:$")

PYTHON = """#!{ours}
import subprocess, sys
arguments = sys.argv[1:]
if arguments[:2] == ["-m", "pip"]:
    where = ["--no-index", "--find-links", "{wheels}", "--no-build-isolation", "--quiet"]
    install = ["{ours}", "-m", "pip", "--python", "{fresh}", "install", *where, *arguments[3:]]
    sys.exit(subprocess.run(install).returncode)
if arguments[:2] == ["-m", "build"]:
    arguments.append("--no-isolation")
sys.exit(subprocess.run(["{fresh}", *arguments]).returncode)
"""
"""A `python` whose pip and build take packages from the wheels here instead of the index."""

PYTEST = '#!/bin/sh\nexec "{fresh}" -m pytest "$@"\n'


def script():
    """The page as one shell script: its files as here-documents, its commands as they are."""
    parts = ["set -ex"]
    for block in _BLOCK.finditer(PAGE.read_text()):
        if NOT_RUN in block["before"]:
            continue
        if named := _NAMED.search(block["before"]):
            parts.append(f"cat > {named[1]} <<'END OF FILE'\n{block['text']}END OF FILE")
        else:
            assert block["language"] == "bash", f"neither a file nor commands: {block['text']}"
            parts.append(block["text"])
    return "\n".join(parts)


def test_the_tutorial_is_files_and_commands():
    text = script()
    assert len(re.findall(r"^cat > ", text, re.MULTILINE)) == 7
    assert "mscore plugins new objective poly" in text
    assert "git push" not in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_from_nothing_to_a_tagged_package(fresh, run):
    commands = fresh.folder / "commands"
    commands.mkdir()
    for name, text in {"python": PYTHON, "pytest": PYTEST}.items():
        (commands / name).write_text(text.format(ours=sys.executable, fresh=fresh.python, wheels=fresh.wheels))
        (commands / name).chmod(0o755)
    variables = {**fresh.variables, "PATH": f"{commands}:{fresh.python.parent}:{fresh.variables['PATH']}"}
    for who in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{who}_NAME": "Ada Lovelace", f"GIT_{who}_EMAIL": "ada@example.org"}
    done = subprocess.run(["bash", "-c", script()], cwd=fresh.work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    package = fresh.work / "mscore-plugin-poly"
    made = sorted(path.name for path in (package / "dist").iterdir())
    assert made == ["mscore_plugin_poly-0.1.0-py3-none-any.whl", "mscore_plugin_poly-0.1.0.tar.gz"]
    for directory in (fresh.work / "runs" / "first" / "latest", package / "runs" / "poly" / "latest"):
        assert "train/poly/loss" in (directory / "metrics.csv").read_text()
    tracked = run(["git", "ls-files"], cwd=package)
    assert not re.search(r"^(runs|dist)/|train\.py|__pycache__", tracked, re.MULTILINE)
    ruff = Path(sys.executable).parent / "ruff"
    run([ruff, "check", "."], cwd=package)
    run([ruff, "format", "--check", "."], cwd=package)

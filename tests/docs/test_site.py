"""The site builds, and a warning is an error."""

import os
import shutil
import subprocess
import sys

import pytest


def build(folder, site):
    """Build the site from a folder that holds mkdocs.yml and docs."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", folder / "mkdocs.yml", "-d", site],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


def test_the_site_builds_without_a_warning(root, tmp_path):
    done = build(root, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(root / "docs").with_suffix(".html") for path in (root / "docs").rglob("*.md")}
    assert {page for page in pages if not (tmp_path / page).is_file()} == set()
    text = (tmp_path / "plugins" / "index.html").read_text()
    assert not [line for line in text.splitlines() if "https://fonts." in line], "a page loads from elsewhere"


@pytest.mark.parametrize(
    ("name", "text"),
    [("docs/run.md", "[a](nowhere.md)"), ("docs/run.md", "[a](config.md#no-such-heading)"), ("docs/lost.md", "# Lost")],
    ids=["link", "anchor", "not in the navigation"],
)
def test_what_would_be_wrong_stops_the_build(root, tmp_path, name, text):
    shutil.copytree(root / "docs", tmp_path / "docs")
    shutil.copyfile(root / "mkdocs.yml", tmp_path / "mkdocs.yml")
    with (tmp_path / name).open("a") as file:
        file.write(f"\n{text}\n")
    assert build(tmp_path, tmp_path / "site").returncode == 1

"""The site builds, and a warning is an error."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import mscore


def build(folder, site):
    """Build the site from a folder that holds mkdocs.yml and docs."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", folder / "mkdocs.yml", "-d", site],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(root, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_has_every_page(root, built):
    pages = {path.relative_to(root / "docs").with_suffix(".html") for path in (root / "docs").rglob("*.md")}
    assert {page for page in pages if not (built / page).is_file()} == set()


def test_a_page_loads_nothing_from_elsewhere(built):
    text = (built / "plugins" / "index.html").read_text()
    loaded = re.findall(
        r"""<(?:script|img)[^>]* src="([^"]*)|<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="([^"]*)""", text
    )
    assert loaded
    assert not [address for found in loaded for address in found if address.startswith(("http:", "https:", "//"))]


def test_the_reference_has_every_public_name_and_what_it_is(built):
    text = (built / "reference.html").read_text()
    assert [name for name in mscore.__all__ if f'id="mscore.{name}"' not in text] == []
    assert not re.search(r":(class|meth|func|data):", text)
    assert "Base class of objectives" in text


@pytest.mark.parametrize(
    ("name", "text"),
    [("docs/run.md", "[a](nowhere.md)"), ("docs/run.md", "[a](config.md#no-such-heading)"), ("docs/lost.md", "# Lost")],
    ids=["link", "anchor", "not in the navigation"],
)
def test_what_would_be_wrong_stops_the_build(root, tmp_path, name, text):
    shutil.copytree(root / "docs", tmp_path / "docs")
    shutil.copyfile(root / "mkdocs.yml", tmp_path / "mkdocs.yml")
    (tmp_path / "mscore").symlink_to(root / "mscore")
    with (tmp_path / name).open("a") as file:
        file.write(f"\n{text}\n")
    assert build(tmp_path, tmp_path / "site").returncode == 1

"""Wheels of every package, and fresh environments that they are installed in."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT,
    *sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file()),
    ROOT / "tests" / "thirdparty" / "mscore-plugin-focal",
]


def succeed(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(name="run", scope="session")
def run_fixture():
    """Run a command that has to succeed, and return what it printed."""
    return succeed


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A folder with the wheel of every package, built from copies of what git would take."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        listed = succeed(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=package).splitlines()
        for name in listed:
            target = sources / package.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (package / name).is_file():
                shutil.copyfile(package / name, target)
        succeed(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, sources / package.name]
        )
    return folder


class Environment:
    """A fresh virtual environment that sees the libraries of this one, and nothing of mscore but what it installs."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.wheels = folder, wheels
        succeed([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
        self.python = folder / "venv" / "bin" / "python"
        self.site = Path(succeed([self.python, "-c", "import site; print(site.getsitepackages()[0])"]).strip())
        libraries = folder / "libraries"
        libraries.mkdir()
        for entry in Path(site.getsitepackages()[0]).iterdir():
            if "mscore" not in entry.name and entry.suffix != ".pth":
                (libraries / entry.name).symlink_to(entry)
        (self.site / "libraries.pth").write_text(f"{libraries}\n")
        self.work = folder / "work"
        self.work.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSCORE_", "PYTHON"))}
        self.variables = {**kept, "MSCORE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}

    def install(self, *names: object, index: bool = False) -> None:
        """Install wheels by name; what they need is taken from the folder of wheels and the libraries.

        Args:
            names: requirements, and options of pip.
            index: also take what is in neither from the package index.
        """
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        where = ["--find-links", self.wheels, *([] if index else ["--no-index"])]
        succeed([*pip, *where, *names], env=self.variables)

    def pytest(self, *arguments: object) -> str:
        """Run fast tests with the installed packages; the repository's own are not on the path."""
        command = [self.python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *arguments]
        return succeed(command, cwd=self.work, env=self.variables, timeout=900)

    def mscore(self, *arguments: object) -> str:
        return succeed([self.python.parent / "mscore", *arguments], cwd=self.work, env=self.variables, timeout=600)

    def code(self, text: str) -> str:
        return succeed([self.python, "-c", text], cwd=self.work, env=self.variables)


@pytest.fixture
def fresh(tmp_path, wheels):
    return Environment(tmp_path, wheels)

"""The pages that users read, and what is in them: code blocks, commands, links."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n+```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^# (\S+/\S+|pyproject\.toml)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    before: str
    """The line before it, in which a mark may stand."""

    @property
    def file(self) -> str | None:
        """The file that it is (a part of), as a comment in one of its first two lines says."""
        found = _FILE.search("\n".join(self.text.splitlines()[:2]))
        return found and found[1]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Arguments of the ``mscore`` commands in a block of shell lines (after ``$`` where it shows output)."""
        bare = not self.language and self.text.startswith("mscore ")
        if self.language not in ("console", "bash", "sh") and not bare:
            return []
        text = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        if any(line.startswith("$ ") for line in lines):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        words = [shlex.split(re.sub(r" > \S+$", "", line), comments=True) for line in lines]
        return [line[1:] for line in words if line and line[0].rpartition("/")[2] == "mscore"]


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, and new ones that git would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    """What we publish; not what tests bring along."""
    return tracked("*.md", ":!tests")


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("language")) + 1, found["language"], found["text"], found["before"])
        for found in _BLOCK.finditer(text)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    blocks = [block for page in pages() for block in blocks_of(page)]
    cases = {
        "page": pages(),
        "python_block": [block for block in blocks if block.language == "python"],
        "yaml_block": [block for block in blocks if block.language == "yaml"],
        "command_block": [block for block in blocks if block.commands()],
    }
    for name, values in cases.items():
        if name in metafunc.fixturenames:
            ids = [value.place if isinstance(value, Block) else str(value.relative_to(ROOT)) for value in values]
            metafunc.parametrize(name, values, ids=ids)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def blocks():
    """All blocks of a page, by its path in the repository."""
    return lambda page: blocks_of(ROOT / page)


@pytest.fixture
def text_files():
    """All tracked files that hold text."""
    return [path for path in tracked() if b"\0" not in path.read_bytes()[:4096]]

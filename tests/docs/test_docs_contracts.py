"""The page on contracts: its shapes, types and members are those of the code."""

import dataclasses
import re

import gymnasium
import pytest
import torch
from gymnasium import spaces

import mscore

SPACES = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "MultiBinary": spaces.MultiBinary((2, 3)),
    "Box": spaces.Box(-1, 1, (4, 2)),
}


@pytest.fixture
def contracts(root):
    return (root / "docs" / "contracts.md").read_text()


def section(contracts, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", contracts, re.DOTALL | re.MULTILINE)[1]


def members(text):
    """The names in the first column of a section's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


@pytest.mark.parametrize("kind", SPACES)
def test_actions_have_the_shapes_and_types_of_the_table(contracts, kind):
    row = re.search(rf"^\| {kind}\b[^|]*\| (.*?) \| (\w+) \|$", contracts, re.MULTILINE)
    shape = {"(B, T)": (), "(B, T, *s)": SPACES[kind].shape}[row[1]]
    head = mscore.make_action_head(SPACES[kind], 8)
    logits = head(torch.zeros(2, 5, 8))
    action = head.sample(logits)
    assert tuple(action.shape) == (2, 5, *shape)
    assert action.dtype == getattr(torch, row[2])
    assert head.logprob(action, logits).shape == head.entropy(logits).shape == (2, 5)
    assert head.kl_divergence(logits, logits).shape == (2, 5, 1)
    assert logits.dtype == torch.float32


def test_minecrafts_actions(contracts):
    assert "(B, T, 1) int64" in contracts
    head = mscore.make_action_head(mscore.minecraft_action_space(), 8)
    action = head.sample(head(torch.zeros(2, 5, 8)))
    assert {name: (tuple(part.shape), part.dtype) for name, part in action.items()} == {
        "buttons": ((2, 5, 1), torch.int64),
        "camera": ((2, 5, 1), torch.int64),
    }


@pytest.mark.parametrize(
    ("title", "cls", "also"),
    [
        ("Policy", mscore.MinePolicy, {"device"}),
        ("Environment", mscore.Environment, set()),
        ("Trainer", mscore.Trainer, set()),
        ("Callback and averaged weights", mscore.AveragedWeights, set()),
    ],
)
def test_every_member_of_a_contract_is_on_the_page(contracts, title, cls, also):
    public = {name for name in vars(cls) if not name.startswith("_")} - also
    assert public - members(section(contracts, title)) == set()


def test_the_run_has_what_the_page_lists(contracts):
    listed = re.search(r"`run` is a `mscore.Run`: (.*?)\.", section(contracts, "Trainer"), re.DOTALL)[1]
    assert re.findall(r"`(\w+)`", listed) == [field.name for field in dataclasses.fields(mscore.Run)]


def test_every_public_name_is_on_a_page(root):
    text = "\n".join(path.read_text() for path in (root / "docs").rglob("*.md") if path.name != "reference.md")
    assert [name for name in mscore.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_a_bare_observation_is_called_image(contracts):
    from mscore.heads.spaces import batch_observation

    assert "a bare picture or vector is called `image`" in contracts
    bare = batch_observation([gymnasium.spaces.Box(0, 255, (4, 4, 3)).sample()], torch.device("cpu"))
    assert list(bare) == ["image"]

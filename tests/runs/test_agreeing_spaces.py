"""When the spaces of data and environment are the same."""

from types import SimpleNamespace

import pytest
from gymnasium import spaces

from mscore import Environment, MscoreError
from mscore.runs.spaces import find_spaces


class Seen(Environment):
    """An environment that shows a space."""

    def __init__(self, space):
        self.space = space

    def make(self, render_mode=None):
        return SimpleNamespace(observation_space=self.space, action_space=spaces.Discrete(2), close=lambda: None)


def found(data, environment):
    return find_spaces(SimpleNamespace(observation_space=data), Seen(environment))


def level(text, directions=4):
    return spaces.Dict({
        "mission": text,
        "direction": spaces.Discrete(directions),
        "pair": spaces.Tuple([text, spaces.Discrete(2)]),
    })  # fmt: skip


def test_how_long_a_text_may_be_is_no_difference():
    data = level(spaces.Text(50))
    assert found(data, level(spaces.Text(1000))).observation is data


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (level(spaces.Text(50), directions=5), r"direction: Discrete\(n=4, .* in the data, Discrete\(n=5"),
        (level(spaces.Discrete(3)), r"mission: Text\(\) in the data, Discrete\(n=3"),
    ],
)
def test_other_differences_are_named(other, message):
    with pytest.raises(MscoreError, match=message):
        found(level(spaces.Text(50)), other)

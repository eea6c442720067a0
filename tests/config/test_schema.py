"""What a constructor says about itself."""

import dataclasses
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from mscore.config import component_schema
from mscore.config.schema import default_text, parameter_type
from mscore.config.signatures import parameter_docs


def row(schema, name):
    (one,) = [parameter for parameter in schema.parameters if parameter.name == name]
    return parameter_type(one), default_text(one), one.required, one.doc


def test_types_defaults_and_docs(parts):
    schema = component_schema(parts.Walker, "policy")
    assert row(schema, "hiddim") == ("int >= 1", "64", False, "width of the latent, in channels.")
    assert row(schema, "sizes") == ("tuple[int, ...]", "()", False, "layer widths.")
    assert row(schema, "dropout") == ("float >= 0 and < 1", "0.0", False, "")
    assert row(schema, "weights") == ("Path | null", "null", False, "")
    assert row(schema, "color") == ("'red' | 'blue'", "'red'", False, "")
    assert row(schema, "mode") == ("'slow' | 'fast'", "'slow'", False, "")
    assert row(schema, "flag") == ("bool", "false", False, "")
    assert row(schema, "table") == ("dict[str, list[int]] | null", "null", False, "")
    assert row(schema, "names") == ("list[str] of at least 1", "['a']", False, "")
    assert row(schema, "strange")[0] == "anything"
    assert [one.name for one in schema.supplied] == ["observation_space", "action_space"]
    assert "observation_space" not in schema.names


def test_a_dataclass_and_a_nested_component(parts):
    schema = component_schema(parts.Frames)
    assert row(schema, "win_len") == ("int > 0", "", True, "")
    assert row(schema, "environment") == ("environment | null", "null", False, "")


def test_parameters_of_kwargs_receivers_come_with_their_docs(parts):
    schema = component_schema(parts.Forwarding)
    assert schema.names == ["extra", "monitor", "patience"]
    assert row(schema, "monitor") == ("str", "", False, "what is watched.")
    assert not schema.accepts_anything
    assert component_schema(parts.Free).accepts_anything
    assert component_schema(parts.optimizer_factory, "optimizer").names == ["learning_rate"]


def test_the_first_parameter_of_optimizers_and_schedulers_is_supplied(parts):
    assert component_schema(parts.PlainOptimizer, "optimizer").names == ["learning_rate"]
    assert component_schema(parts.FlatSchedule, "scheduler").names == ["steps"]
    assert component_schema(parts.FlatSchedule, "callback").names == ["optimizer", "steps"]
    assert component_schema(parts.make_maze, "environment").names == ["size"]


def test_hidden_parameters(parts):
    schema = component_schema(parts.HiddenWalker)
    assert schema.names == ["act", "maze"]
    assert schema.hidden == {"secret"}


def test_what_cannot_be_called_has_no_schema():
    with pytest.raises(TypeError, match="neither a class nor a function"):
        component_schema("text")


def test_json_schema(parts):
    schema = component_schema(parts.Walker).json_schema()
    properties = schema["properties"]
    assert schema["additionalProperties"] is False
    assert properties["hiddim"] == {
        "type": "integer",
        "minimum": 1,
        "default": 64,
        "description": "width of the latent, in channels.",
    }
    assert properties["sizes"]["items"] == {"type": "integer"}
    assert properties["mode"]["enum"] == ["slow", "fast"]
    assert component_schema(parts.Frames).json_schema()["required"] == ["win_len"]
    assert "default" not in component_schema(parts.Frames).json_schema()["properties"]["win_len"]
    teacher = component_schema(parts.Teacher).json_schema()["properties"]
    assert teacher["environment"]["anyOf"][0] == {"type": "string"}
    assert teacher["environment"]["anyOf"][1]["required"] == ["use"]
    assert component_schema(parts.Free).json_schema()["additionalProperties"] is True
    assert component_schema(parts.HiddenWalker).json_schema()["properties"]["act"]


def test_parameters_may_be_called_like_anything():
    class Odd:
        def __init__(self, copy: int = 1, model_config: int = 2, _private: int = 3, json: int = 4, loc: int = 5):
            pass

    schema = component_schema(Odd)
    values = {"copy": 5, "model_config": 6, "_private": 7, "json": 8, "loc": 9}
    assert schema.convert(values, "x") == (values, [])
    _, problems = schema.convert({**values, "_private": "x"}, "x")
    assert problems == [("x._private", "found 'x' (text), expected an integer")]


def test_an_annotation_that_pydantic_cannot_check_goes_unchecked_alone():
    class Strange:
        def __init__(self, odd: Annotated[object, Ge] = None, bad: 3 = 0, even: int = 0, typo: "Nowhre | int" = 1):  # noqa: F821
            pass

    schema = component_schema(Strange)
    assert schema.convert({"odd": 1, "bad": 2, "even": 3, "typo": "x"}, "s")[1] == []
    assert schema.convert({"bad": 2, "even": "x"}, "s")[1] == [("s.even", "found 'x' (text), expected an integer")]


def test_a_dataclass_that_inherits():
    @dataclasses.dataclass
    class Base:
        one: int = 1

    @dataclasses.dataclass
    class Derived(Base):
        two: float = 2.0

    assert component_schema(Derived).names == ["one", "two"]


def test_a_class_without_constructor_takes_nothing(parts):
    schema = component_schema(parts.Notes)
    assert (schema.parameters, schema.accepts_anything) == ((), False)


def test_docs_of_several_styles():
    docs = parameter_docs(
        """Do it.

        Args:
            plain: text that
                goes on: here.
            typed (int, optional): more (default: 1e-3).
            **kwargs: the rest.

        Returns:
            other: not a parameter.
        """
    )
    assert docs == {
        "plain": "text that goes on: here.",
        "typed": "more (default: 1e-3).",
        "kwargs": "the rest.",
    }
    assert parameter_docs(None) == parameter_docs("Nothing.") == {}


def test_any_is_anything():
    def factory(value: Any, other=3):
        pass

    assert [parameter_type(one) for one in component_schema(factory).parameters] == ["anything", "anything"]

"""The parameters of the data: by themselves, as a config gives them, or in MineStudio's ``data_params``."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mscore import MscoreError, convert_to_normal

_FORMER_NAMES = {"enable_contractor_info": "enable_meta_info"}
"""Names of MineStudio v1.0 that are gone, with the present ones."""


@dataclass(frozen=True)
class DataParams:
    """What is read, and in which windows.

    Args:
        mode: ``raw`` cuts whole episodes into windows; ``event`` makes a window for each event.
        dataset_dirs: folders of datasets; their episodes are taken together.
        frame_width: pixels of the frames that the policy sees, and of masks.
        frame_height: pixels of the frames that the policy sees, and of masks.
        win_len: frames of a window.
        skip_frame: every how many frames of an episode one is taken; 1 takes all.
        enable_video: give ``image``.
        enable_action: give ``env_action`` and ``agent_action``.
        enable_prev_action: also give ``env_prev_action`` and ``agent_prev_action``, the action before each
            (``skip_frame`` frames before); no action where the episode begins.
        enable_meta_info: give ``meta_info``, what the game said about each frame.
        enable_segment: give ``segmentation``, where the object of an interaction is.
        event_constrain: give the segmentation of those interactions only that end in this event, such as
            ``mine_block:oak_log``.
        event_regex: which events, matched from the beginning of their full name; all by default.
        bias: frames by which the windows of events are moved; with 1 they end with the event's frame.
        min_nearby: of one kind of event, use one only if it comes more than this many frames after the last.
        max_within: use at most this many of one kind of event of each dataset.
        split_ratio: share of the episodes that are trained on, rounded down; the others are held out.
        shuffle_episodes: shuffle the episodes before they are split; else the last ones by name are held out.
        seed: of the split, of the order of training, and of the choice among several objects.
        on_error: ``raise`` stops at what cannot be read; ``skip`` leaves it out, and says so at the end.
    """

    mode: Literal["raw", "event"] = "raw"
    dataset_dirs: tuple[str, ...] = ()
    frame_width: Annotated[int, Ge(1), Le(4096)] = 128
    frame_height: Annotated[int, Ge(1), Le(4096)] = 128
    win_len: Annotated[int, Ge(1)] = 128
    skip_frame: Annotated[int, Ge(1)] = 1
    enable_video: bool = True
    enable_action: bool = True
    enable_prev_action: bool = False
    enable_meta_info: bool = False
    enable_segment: bool = False
    event_constrain: str | None = None
    event_regex: str = ""
    bias: int = 0
    min_nearby: Annotated[int, Ge(0)] | None = None
    max_within: Annotated[int, Ge(1)] | None = None
    split_ratio: Annotated[float, Gt(0), Le(1)] = 0.8
    shuffle_episodes: bool = False
    seed: Annotated[int, Ge(0)] = 0
    on_error: Literal["raise", "skip"] = "raise"

    @property
    def modalities(self) -> list[str]:
        """The modalities that are read."""
        enabled = {
            "image": self.enable_video,
            "action": self.enable_action,
            "meta_info": self.enable_meta_info,
            "segmentation": self.enable_segment,
        }
        return [modality for modality, wanted in enabled.items() if wanted]


def check_data_params(given: Mapping[str, Any]) -> DataParams:
    """Parameters by name as :class:`DataParams`.

    Raises:
        MscoreError: unknown parameters, values of a wrong type or out of their range, all of them; or parameters
            that do not go together.
    """
    values = dict(given)
    folders = values.get("dataset_dirs")
    if isinstance(folders, list | tuple):
        values["dataset_dirs"] = tuple(str(folder) for folder in folders)
    try:
        params = DataParams(**dict(_model().model_validate(values)))
    except ValidationError as error:
        raise MscoreError("\n".join(_said(problem) for problem in error.errors())) from error
    problems = _contradictions(params)
    if problems:
        raise MscoreError("\n".join(problems))
    return params


def flatten(data_params: Any, beside: Mapping[str, Any]) -> dict[str, Any]:
    """MineStudio's ``data_params`` and the parameters that stand beside it, as one mapping.

    Args:
        data_params: a dict, also OmegaConf's; None for none.
        beside: what is given by itself; a value that is the parameter's default counts as not given.

    Raises:
        MscoreError: ``data_params`` is no dict, or a parameter is given twice.
    """
    inside = {} if data_params is None else convert_to_normal(data_params)
    if not isinstance(inside, dict):
        raise MscoreError(f"data_params is a {type(inside).__name__}; expected a dict of parameters")
    inside = {_FORMER_NAMES.get(name, name): value for name, value in inside.items()}
    outside = {name: convert_to_normal(value) for name, value in beside.items()}
    given = {name for name, value in outside.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}
    twice = sorted(name for name in given & inside.keys() if outside[name] != inside[name])
    if twice:
        raise MscoreError(f"{', '.join(twice)}: given in data_params and beside it; give it once")
    return {**outside, **inside}


@cache
def _model() -> type[BaseModel]:
    """What checks the parameters: nothing is converted, as in a config."""
    hints = get_type_hints(DataParams, include_extras=True)
    fields: dict[str, Any] = {name: (hints[name], default) for name, default in _DEFAULTS.items()}
    return create_model("DataParams", __config__=ConfigDict(strict=True, extra="forbid"), **fields)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(DataParams)}


def _said(problem: Any) -> str:
    name = ".".join(str(step) for step in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{name}: {problem['msg']}, found {problem['input']!r}"
    nearest = difflib.get_close_matches(name, _DEFAULTS, n=1)
    hint = f". Did you mean {nearest[0]!r}?" if nearest else ""
    return f"{name}: unknown parameter of the data, expected one of: {', '.join(sorted(_DEFAULTS))}{hint}"


def _contradictions(params: DataParams) -> list[str]:
    problems = []
    if not params.dataset_dirs:
        problems.append("dataset_dirs: it is empty; name the folder of a dataset, or several")
    if not params.modalities:
        problems.append("enable_video, enable_action, enable_meta_info and enable_segment are all off; enable one")
    if params.enable_prev_action and not params.enable_action:
        problems.append("enable_prev_action needs enable_action")
    if params.event_constrain is not None and not params.enable_segment:
        problems.append("event_constrain needs enable_segment")
    if params.mode == "raw":
        of_events = ("event_regex", "bias", "min_nearby", "max_within")
        changed = [name for name in of_events if getattr(params, name) != _DEFAULTS[name]]
        if changed:
            problems.append(f"{', '.join(changed)}: of events, which mode 'raw' does not read; use mode 'event'")
    return problems

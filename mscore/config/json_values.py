"""JSON schemas of parameters as pydantic writes them, made to say what a config may say.

pydantic describes JSON; a config has interpolation, durations such as ``00:30:00``, and components by name.
"""

from typing import Any

from mscore.config.annotations import COMPONENT_MARK

Json = dict[str, Any]

INTERPOLATION = "interpolation"
"""Name of the definition of what stands for any value."""

INTERPOLATION_SCHEMA: Json = {
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
    "description": "${path}, ${oc.env:NAME}, or ??? for what an including file or an override gives.",
}
_BESIDE = ("description", "default", "title")
"""Keywords that say something about a value, not which values there are."""


def adapted(schema: Any, owner: str) -> Any:
    """A parameter's schema for configs.

    Args:
        schema: as pydantic writes it; it is not changed.
        owner: what the names of its own definitions get as a prefix.
    """
    if not isinstance(schema, dict):
        return schema
    if COMPONENT_MARK in schema:
        chosen: Json = {"$ref": f"#/$defs/{schema[COMPONENT_MARK]}"}
        return {**{key: schema[key] for key in _BESIDE if key in schema}, **chosen}
    result = {key: value for key, value in schema.items() if key not in ("format", "uniqueItems")}
    if schema.get("format") == "duration":
        result["type"] = ["string", "number"]  # 00:30:00, or seconds
    if "$ref" in result:
        result["$ref"] = result["$ref"].replace("#/$defs/", f"#/$defs/{owner}.")
    for key in ("anyOf", "oneOf", "allOf"):
        if key in result:
            result[key] = [adapted(one, owner) for one in result[key]]
    if "prefixItems" in result:
        result["prefixItems"] = [or_interpolated(adapted(one, owner)) for one in result["prefixItems"]]
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = or_interpolated(adapted(result[key], owner))
    if "properties" in result:
        result["properties"] = {
            name: or_interpolated(adapted(one, owner)) for name, one in result["properties"].items()
        }
    return result


def or_interpolated(schema: Json) -> Json:
    """The schema, or text that interpolation turns into a value."""
    if _takes_any_text(schema):
        return schema
    beside = {key: schema[key] for key in _BESIDE if key in schema}
    rest = {key: value for key, value in schema.items() if key not in beside}
    choices = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    return {**beside, "anyOf": [*choices, {"$ref": f"#/$defs/{INTERPOLATION}"}]}


def _takes_any_text(schema: Json) -> bool:
    limits = {key for key in schema if key not in _BESIDE}
    if not limits:
        return True
    if "anyOf" in schema:
        return any(map(_takes_any_text, schema["anyOf"]))
    kinds = schema.get("type", ())
    return limits == {"type"} and "string" in ([kinds] if isinstance(kinds, str) else kinds)

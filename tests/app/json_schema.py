"""As much of JSON Schema as the published OpenAPI uses, and stricter: no undeclared property."""

import math
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
# Whatever else a schema says would be a test that silently tests less.
_KNOWN = {
    *("$ref", "type", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf"),
    *("enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "maxProperties", "propertyNames"),
    *("title", "description", "default", "examples"),
}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Return where and why ``value`` is not what ``schema`` says."""
    return list(_faults(value, schema, root, at))


def _faults(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if unknown := schema.keys() - _KNOWN:
        yield f"{at}: the schema says {unknown}, which is not understood"
    if "$ref" in schema:
        target: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        yield from _faults(value, target, root, at)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            fitting = [s for s in schema[union] if not faults(value, s, root, at)]
            if not fitting or (union == "oneOf" and len(fitting) > 1):
                yield f"{at}: fits {len(fitting)} of {union}"
    if "type" in schema:
        right = isinstance(value, _TYPES[schema["type"]])
        if not right or (isinstance(value, bool) and schema["type"] != "boolean"):
            yield f"{at}: is no {schema['type']}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: is not {schema['const']}"
    yield from _size_faults(value, schema, at)
    if isinstance(value, dict) and "properties" in schema:
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at}: lacks {name}"
        for name, item in value.items():
            if name in schema["properties"]:
                yield from _faults(item, schema["properties"][name], root, f"{at}.{name}")
            else:
                yield f"{at}: {name} is not declared"
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        if len(value) > schema.get("maxProperties", math.inf):
            yield f"{at}: has too many properties"
        for name, item in value.items():
            yield from _faults(name, schema.get("propertyNames", {}), root, f"{at}.{name}")
            yield from _faults(item, schema["additionalProperties"], root, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{at}[{i}]")


def _size_faults(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    if isinstance(value, int | float):
        if not math.isfinite(value):
            yield f"{at}: is not finite"
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            yield f"{at}: is out of range"
        if not (
            schema.get("exclusiveMinimum", -math.inf)
            < value
            < schema.get("exclusiveMaximum", math.inf)
        ):
            yield f"{at}: is out of range"
    if isinstance(value, str | list):
        kind = "Length" if isinstance(value, str) else "Items"
        least, most = schema.get(f"min{kind}", 0), schema.get(f"max{kind}", math.inf)
        if not least <= len(value) <= most:
            yield f"{at}: is too short or too long"

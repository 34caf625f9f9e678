"""What Schemathesis is told about this service."""

import json
from typing import Any

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET

BY_SCHEMA = "The request has fields that cannot be used."
BEYOND_FLOATS = str(2**63 - 1)


def whole_numbers(value: Any) -> Any:
    """Write 3.0 as 3: to JSON Schema it is an integer, and this service takes it for none."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: whole_numbers(inner) for name, inner in value.items()}
        case list():
            return [whole_numbers(inner) for inner in value]
    return value


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    return whole_numbers(body)


@schemathesis.serializer("application/x-ndjson")
def as_line(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


@schemathesis.check
def bad_lines_get_rows_that_say_so(
    context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """Stands for ``negative_data_rejection`` where the answer begins before the line is read."""
    kind = case.media_type
    if kind == "application/x-ndjson" and case.body is not NOT_SET:
        mode = case.meta.generation.mode if case.meta else None
        if response.status_code == 200:
            (row,) = map(json.loads, response.content.splitlines())
            if mode is GenerationMode.NEGATIVE:
                assert 400 <= row["error"]["status"] < 500
            elif row.get("error", {}).get("detail") == BY_SCHEMA:
                # Schemathesis compares bounds as floats, to which both sides of this are the same.
                assert isinstance(case.body["id"], int), row
                assert abs(case.body["id"]) >= 2**63, row


@schemathesis.check
def refused_for_its_meaning_alone(
    context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """What the schema allows is refused for one reason that names its field, if at all."""
    mode = case.meta.generation.mode if case.meta else None
    if mode is GenerationMode.POSITIVE and response.status_code == 422:
        problem = response.json()
        if any(BEYOND_FLOATS in error["message"] for error in problem["errors"]):
            return  # Schemathesis compares these as floats, to which both sides are the same
        assert problem["detail"] != BY_SCHEMA, problem["errors"]
        assert len(problem["errors"]) == 1


@schemathesis.check
def problems_are_problems(
    context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """Every refusal is a problem with this answer's id, and short whatever was sent."""
    if response.status_code >= 400:
        (kind,) = response.headers["content-type"]
        problem = response.json()
        if case.path.startswith("/v1/"):  # in OpenAI's words
            assert kind == "application/json"
            assert problem["error"].keys() == {"message", "type", "param", "code"}
            return
        assert kind == "application/problem+json"
        assert problem["status"] == response.status_code
        assert [problem["request_id"]] == list(response.headers["x-request-id"])
        assert len(response.content) < 10_000

"""The published description is complete, and the service does what it says."""

import pytest
from fastapi.testclient import TestClient

from tests.app.json_schema import faults

PROBLEM = "application/problem+json"
TEXT = {"type": "string"}
ROUTES = {
    ("post", "/next-word"),
    ("post", "/score"),
    ("post", "/score/bulk"),
    ("post", "/rank"),
    ("post", "/generate"),
    ("post", "/tokenize"),
    ("post", "/detokenize"),
    ("get", "/tokenizer_info"),
    ("get", "/models"),
    ("get", "/models/{name}"),
    ("post", "/models/{name}/reload"),
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/metrics"),
    ("post", "/v1/completions"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{name}"),
    ("get", "/word/predict"),
    ("get", "/character/predict"),
}
QUESTIONS = ("/next-word", "/score", "/rank", "/generate")


@pytest.fixture(scope="module")
def openapi(client: TestClient) -> dict:
    return client.get("/openapi.json").json()


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*map(references, node.values()))
    if isinstance(node, list):
        return set().union(*map(references, node))
    return set()


def test_every_route_is_published_and_nothing_else(openapi):
    found = {(method, path) for path, item in openapi["paths"].items() for method in item}
    assert found == ROUTES
    names = [
        operation["operationId"]
        for item in openapi["paths"].values()
        for operation in item.values()
    ]
    assert len(set(names)) == len(ROUTES)


def test_every_reference_leads_somewhere(openapi):
    schemas = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) == schemas


NATIVE = {(method, path) for method, path in ROUTES if not path.startswith("/v1/")}


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES - NATIVE))
def test_openais_operations_declare_their_answers(openapi, method, path):
    operation = openapi["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    expected = {"200", "503", "default"}
    expected |= {"400", "404"} if path != "/v1/models" else set()
    expected |= {"413", "415", "429"} if method == "post" else set()
    assert operation["responses"].keys() == expected
    for status, response in operation["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        error = schema == {"$ref": "#/components/schemas/OpenAIError"}
        assert error == (status != "200")


@pytest.mark.parametrize(("method", "path"), sorted(NATIVE))
def test_every_operation_declares_its_answers(openapi, method, path):
    operation = openapi["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    expected = {"200"}
    if path.endswith("/reload"):
        expected |= {"401", "403", "404", "409", "422", "503"}
    elif method == "post":
        expected |= {"400", "404", "413", "415", "422", "503"}
        expected |= {"429"} if path in QUESTIONS else set()
        if path == "/score/bulk":  # what else may be wrong is wrong with a line
            expected = {"200", "415", "503"}
        assert operation["requestBody"]["required"]
    elif path not in ("/health", "/metrics"):
        expected |= {"503"} if path in ("/models", "/ready") else {"404", "422", "503"}
        if path.endswith("/predict"):  # 400: a query may make the head too long
            expected |= {"400", "429"}
    assert operation["responses"].keys() == expected
    for status, response in operation["responses"].items():
        content = response["content"]
        if path == "/metrics":
            assert content == {"text/plain; version=0.0.4; charset=utf-8": {"schema": TEXT}}
        elif status == "200" and path == "/score/bulk":
            assert content["application/x-ndjson"]["schema"]["type"] == "string"
        elif status == "200":
            assert "$ref" in content["application/json"]["schema"]
        else:
            assert content == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert ("Retry-After" in response.get("headers", ())) == (status == "429")


def test_every_field_is_described_and_every_request_field_has_an_example(openapi):
    for name, schema in openapi["components"]["schemas"].items():
        assert schema["description"], name
        for field, described in schema["properties"].items():
            assert "description" in described or "$ref" in described, f"{name}.{field}"
            if name.endswith("Request") or name == "RankCandidate":
                assert "examples" in described, f"{name}.{field}"
                for example in described["examples"]:
                    assert faults(example, described, openapi) == [], f"{name}.{field}"


def bounds(schema: object) -> set[str]:
    if isinstance(schema, dict):
        return set(schema).union(*map(bounds, schema.values()))
    return set().union(*map(bounds, schema)) if isinstance(schema, list) else set()


def test_every_text_list_and_number_of_a_request_has_bounds(openapi):
    def check(schema: dict, at: str) -> None:
        for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema):
            match part.get("type"):
                case "string":
                    assert "maxLength" in part or "enum" in part, at
                case "array":
                    assert "maxItems" in part, at
                    check(part["items"], at)
                case "integer" | "number":
                    assert {"minimum", "exclusiveMinimum"} & part.keys(), at
                    assert {"maximum", "exclusiveMaximum"} & part.keys(), at

    for name, schema in openapi["components"]["schemas"].items():
        if name.endswith("Request") or name == "RankCandidate":
            tolerant = name == "CompletionRequest"  # of what other servers know
            assert schema.get("additionalProperties", True) is tolerant
            for field, described in schema["properties"].items():
                if (name, field) != ("DetokenizeRequest", "tokens"):  # bounded by the model
                    check(described, f"{name}.{field}")


def test_published_bounds_are_those_of_the_settings(openapi, settings):
    text = openapi["components"]["schemas"]["NextWordRequest"]["properties"]["text"]
    assert text["maxLength"] == settings.max_text_characters == 2000


def test_the_checker_itself_finds_faults(openapi):
    schema = {"$ref": "#/components/schemas/Prediction"}
    good = {"word": "a", "probability": 0.5, "log_prob": -0.7, "rank": 1}
    assert faults(good, schema, openapi) == []
    for bad in ({"rank": True}, {"rank": 1.5}, {"word": None}, {"extra": 1}, {"log_prob": "x"}):
        assert len(faults(good | bad, schema, openapi)) == 1
    assert len(faults({"word": "a"}, schema, openapi)) == 3


def test_the_documentation_page_is_there(client: TestClient):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text

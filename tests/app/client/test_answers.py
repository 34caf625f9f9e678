"""Both clients against a real server."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from app.client import AsyncClient, Client, ServiceError
from app.client import fields as fields_of
from app.schemas import requests
from tests.app.conftest import SUBWORD, WORD

GENERATE: Any = {"strategy": "sample", "seed": 4, "max_tokens": 25, "n": 2, "log_probs": True}
CALLS: list[tuple[str, tuple, dict, str, dict]] = [
    ("next_word", ("we",), {"top_k": 3, "candidates": ["coffee"]}, "/next-word", {"text": "we"}),
    ("score", ("we sold",), {"tokens": True}, "/score", {"text": "we sold"}),
    ("score", (["we", "you"],), {"context": "so"}, "/score", {"text": ["we", "you"]}),
    (
        "rank",
        (["we sold", {"text": "sold we", "score": -1.0}],),
        {"normalize": "tokens"},
        "/rank",
        {"candidates": [{"text": "we sold"}, {"text": "sold we", "score": -1.0}]},
    ),
    ("generate", ("we",), GENERATE, "/generate", {"text": "we"}),
]


def ask_async(url: str, name: str, *arguments: Any, **fields: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(url) as client:
            return await getattr(client, name)(*arguments, **fields)

    return asyncio.run(ask())


@pytest.mark.parametrize(("name", "arguments", "fields", "path", "body"), CALLS)
def test_answers_are_the_services(url, name, arguments, fields, path, body):
    expected = httpx.post(url + path, json={**body, **fields, "model": WORD}).json()
    with Client(url) as client:
        answer = getattr(client, name)(*arguments, **fields, model=WORD)
    assert answer.model_dump() == expected
    assert ask_async(url, name, *arguments, **fields, model=WORD) == answer


def test_the_service_about_itself(url):
    with Client(url) as client:
        assert {model.name for model in client.models().models} == {SUBWORD, WORD}
        assert client.model(WORD).architecture == "transformer"
        assert set(client.ready().models) == {SUBWORD, WORD}
        with pytest.raises(ServiceError) as raised:
            client.model("no/body?x=1")
    assert raised.value.status == 404
    assert ask_async(url, "model", WORD).name == WORD
    assert len(ask_async(url, "models").models) == 2
    assert set(ask_async(url, "ready").models) == {SUBWORD, WORD}


@pytest.mark.parametrize(
    ("fields", "schema", "others"),
    [
        (fields_of.NextWordFields, requests.NextWordRequest, {"text"}),
        (fields_of.ScoreFields, requests.ScoreRequest, {"text"}),
        (fields_of.RankFields, requests.RankRequest, {"candidates"}),
        (fields_of.GenerateFields, requests.GenerateRequest, {"text", "stream"}),
    ],
)
def test_every_field_can_be_given(fields, schema, others):
    assert set(get_type_hints(fields)) == set(schema.model_fields) - others


def test_a_problem_carries_its_details(url):
    with Client(url) as client, pytest.raises(ServiceError) as raised:
        client.next_word("we", top_k=0, temperature=0)
    error = raised.value
    assert (error.status, error.title) == (422, "Unprocessable Entity")
    assert {fault.field for fault in error.errors} == {"top_k", "temperature"}
    assert error.request_id
    assert "top_k: " in str(error)
    with Client(url) as client, pytest.raises(ServiceError, match="404"):
        list(client.stream("we", model="nobody"))


def test_the_client_loads_nothing_of_the_server():
    code = (
        "import sys, app.client\n"
        "heavy = {'torch', 'numpy', 'fastapi', 'starlette', 'uvicorn', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_the_documented_example_runs(url, tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "bulk.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "texts.txt").write_text("we sold coffee.\nyou\n" + "a" * 20_000)
    code = code.replace("http://127.0.0.1:8000", url)
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert float(lines[0].split()[1]) < 0
    assert "cannot be used" in lines[2]

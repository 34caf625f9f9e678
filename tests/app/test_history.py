"""What the user wrote before, over HTTP and on the command line."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app
from models.forward import run
from models.generate import generate
from models.language_model import LanguageModel
from models.next_word import next_word
from models.rank import rank
from models.recall import recall
from models.score import score, score_all
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
BOTH = pytest.mark.parametrize("name", [SUBWORD, WORD])
HISTORY = "we have seen two red houses.\nmy sister sold the slow computer!"
QUESTIONS = [
    ("/next-word", {"text": "I would"}),
    ("/score", {"text": "we sold coffee", "tokens": True}),
    ("/rank", {"candidates": [{"text": "we sold coffee"}, {"text": "you"}]}),
    ("/generate", {"text": "I would", "max_tokens": 5, "log_probs": True}),
]
every_question = pytest.mark.parametrize(("path", "body"), QUESTIONS)


def ask(client: TestClient, path: str, **body):
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@BOTH
def test_answers_are_the_models_own(client: TestClient, models: Models, name: str):
    model = models[name]

    def expected(program):
        return run(recall(model, HISTORY, program), model)

    asked = {"history": HISTORY, "model": name}
    answer = ask(client, "/next-word", text="I would", prefix="se", candidates=["see"], **asked)
    found = expected(next_word(model, "I would", prefix="se", candidates=["see"]))
    assert answer["predictions"] == [asdict(p) for p in found.predictions]
    assert answer["candidates"] == [asdict(c) for c in found.candidates]
    texts = ["we sold coffee", "the slow computer"]
    for detail in (False, True):
        answer = ask(client, "/score", text=texts, tokens=detail, context="so", **asked)
        found = expected(score_all(model, texts, words=detail, context="so"))
        for result, sentence in zip(answer["results"], found, strict=True):
            assert result["log_prob"] == pytest.approx(sentence.log_prob, abs=1e-5)
    answer = ask(client, "/rank", candidates=[{"text": text} for text in texts], **asked)
    assert [r["index"] for r in answer["results"]] == [
        r.index for r in expected(rank(model, texts))
    ]
    answer = ask(client, "/generate", text="we", strategy="sample", seed=5, **asked)
    (result,) = expected(generate(model, "we", strategy="sample", seed=5)).results
    assert answer["results"][0]["text"] == result.text


@every_question
def test_an_empty_history_is_none(client: TestClient, path, body):
    assert ask(client, path, history="", **body) == ask(client, path, **body)
    assert ask(client, path, history=" \n", **body) == ask(client, path, **body)
    assert ask(client, path, history=HISTORY, **body) != ask(client, path, **body)


@every_question
def test_its_length_is_bounded(client: TestClient, path, body):
    ask(client, path, history="a" * 2000, **body)
    response = client.post(path, json={"history": "a" * 2001} | body)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == "history"
    assert "2000" in fault["message"]


@every_question
@pytest.mark.parametrize("wrong", [None, 1, ["a"], True])
def test_it_is_text(client: TestClient, path, body, wrong):
    response = client.post(path, json={"history": wrong} | body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "history"


@pytest.mark.parametrize(
    "history", ["\x00", "\u200d", "🙂" * 500, "\n\n.\r\n", "a\ud7ff\n", "</s>"]
)
def test_any_text_may_be_one(client: TestClient, history):
    answers = [ask(client, path, history=history, **body) for path, body in QUESTIONS]
    words, scores, ranked, generated = answers
    assert 0 < sum(word["probability"] for word in words["predictions"]) <= 1 + 1e-9
    assert scores["results"][0]["log_prob"] < 0
    assert sum(one["probability"] for one in ranked["results"]) == pytest.approx(1)
    assert generated["results"][0]["log_prob"] < 0


def test_the_same_in_a_busy_batch_and_again(client: TestClient):
    asked = [{"text": "I would", "history": f"{HISTORY}\n{i % 3}"} for i in range(24)]
    alone = [ask(client, "/next-word", **body) for body in asked[:3]]
    with ThreadPoolExecutor(8) as pool:
        busy = list(pool.map(lambda body: ask(client, "/next-word", **body), asked))
    for i, answer in enumerate(busy):
        assert [p["word"] for p in answer["predictions"]] == [
            p["word"] for p in alone[i % 3]["predictions"]
        ]
        for found, expected in zip(answer["predictions"], alone[i % 3]["predictions"], strict=True):
            assert found["log_prob"] == pytest.approx(expected["log_prob"], abs=1e-5)


def test_it_is_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    ask(client, "/next-word", text="a", history="Zyqqxorvian")
    client.post("/next-word", json={"text": "a", "history": "Zyqqxorvian" * 1000})
    assert "Zyqq" not in caplog.text


def test_every_question_of_openapi_tells_of_it(client: TestClient):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("NextWord", "Score", "Rank", "Generate"):
        field = schemas[f"{name}Request"]["properties"]["history"]
        assert field["default"] == ""
        assert field["maxLength"] == 2000


def test_the_command_reads_a_file(client, tmp_path, models_dir, monkeypatch):
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", str(models_dir))
    path = tmp_path / "history.txt"
    path.write_text(HISTORY, encoding="utf-8")
    runner, options = CliRunner(), ["--json", "--model", SUBWORD, "--history"]
    for command, body, route in (
        (["next", "I would"], {"text": "I would"}, "/next-word"),
        (["score", "we sold", "--tokens"], {"text": ["we sold"], "tokens": True}, "/score"),
        (["generate", "we"], {"text": "we"}, "/generate"),
    ):
        expected = ask(client, route, history=HISTORY, **body)
        found = runner.invoke(app, [*command, *options, str(path)])
        assert json.loads(found.stdout).keys() == expected.keys()
        piped = runner.invoke(app, [*command, *options, "-"], input=HISTORY)
        assert json.loads(piped.stdout) == json.loads(found.stdout)
        if route == "/next-word":
            assert json.loads(found.stdout) == expected
    path.write_bytes(b"\xff\xfe")
    refused = runner.invoke(app, ["next", "a", *options, str(path)])
    assert refused.exit_code == 2
    assert "not UTF-8" in refused.stderr
    assert runner.invoke(app, ["next", "a", *options, str(tmp_path / "none")]).exit_code == 2


def test_a_score_with_a_history_takes_more_room():
    from app.schemas.requests import NextWordRequest, ScoreRequest

    assert ScoreRequest(text="a", history="b").items == ScoreRequest(text="a", tokens=True).items
    assert NextWordRequest(text="a").small
    assert not NextWordRequest(text="a", history="b").small


def test_score_of_one(client: TestClient, models: Models):
    found = ask(client, "/score", text="we", history=HISTORY)["results"][0]["log_prob"]
    model = models[SUBWORD]
    expected = run(recall(model, HISTORY, score(model, "we")), model).log_prob
    assert found == pytest.approx(expected, abs=1e-5)

"""The service about itself: models, health, readiness, request ids, the log."""

import shutil
import threading
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient

from app import registry as registry_module
from app.application import create_app
from app.settings import Settings
from models.checkpoint import load_checkpoint
from models.language_model import LanguageModel
from tests.app.conftest import SUBWORD, WORD, wait_until_ready


def test_models_are_listed_by_name_without_the_broken_ones(client: TestClient):
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed] == [SUBWORD, WORD]
    assert [model["default"] for model in listed] == [True, False]
    for model in listed:
        assert client.get(f"/models/{model['name']}").json() == model


def test_a_model_is_described(client: TestClient, models: dict[str, LanguageModel]):
    model = models[WORD]
    assert client.get(f"/models/{WORD}").json() == {
        "name": WORD,
        "default": False,
        "architecture": "transformer",
        "parameters": model.num_parameters,
        "vocab_size": model.tokenizer.vocab_size,
        "tokenizer": "word",
        "context_length": 12,
        "network": {
            "kind": "transformer",
            "vocab_size": model.tokenizer.vocab_size,
            "num_ids": model.tokenizer.num_ids,
            "embedding_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "feedforward_size": 32,
            "context_length": 12,
            "dropout": 0.0,
            "tied": True,
        },
        "temperature": 1.0,
        "corpus": {"train": ["a small grammar"]},
        "metrics": {"perplexity": 12.5},
        "checksum": model.checksum,
    }
    assert len(model.checksum) == 64
    assert client.get(f"/models/{SUBWORD}").json()["context_length"] is None


def test_an_unknown_model_is_404(client: TestClient):
    response = client.get("/models/broken")
    assert response.status_code == 404
    assert "broken" not in response.text


def test_ready_waits_for_the_models_and_health_does_not(settings, monkeypatch):
    go_on = threading.Event()

    def slowly(folder: Path) -> LanguageModel:
        assert go_on.wait(20)
        return load_checkpoint(folder)

    monkeypatch.setattr(registry_module, "load_checkpoint", slowly)
    with TestClient(create_app(settings)) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for response in (
            client.get("/ready"),
            client.get("/models"),
            client.get("/tokenizer_info"),
            client.post("/next-word", json={"text": ""}),
            client.post("/generate", json={"text": "", "stream": True}),
        ):
            assert response.status_code == 503
            assert response.json()["detail"] == "The models are being loaded."
        go_on.set()
        wait_until_ready(client)
        assert client.get("/ready").json() == {"status": "ready", "models": [SUBWORD, WORD]}
        client.app.state.registry.draining = True
        response = client.get("/ready")
        assert response.status_code == 503
        assert response.json()["detail"] == "The service is shutting down."
        assert client.get("/health").status_code == 200
        assert client.post("/next-word", json={"text": ""}).status_code == 200


def settled_detail(settings: Settings) -> str:
    """What /ready says once nothing is being loaded any more."""
    with TestClient(create_app(settings)) as client:
        for _ in range(500):
            response = client.get("/ready")
            assert response.status_code == 503
            if "being loaded" not in response.json()["detail"]:
                return response.json()["detail"]
    raise AssertionError("still loading")


def test_ready_says_why_no_model_could_be_loaded(tmp_path: Path, models_dir: Path):
    missing = tmp_path / "missing"
    assert str(missing) in settled_detail(Settings(models_dir=missing))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no checkpoint folder" in settled_detail(Settings(models_dir=empty))
    broken = tmp_path / "broken"
    shutil.copytree(models_dir / WORD, broken / "torn")
    weights = broken / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    detail = settled_detail(Settings(models_dir=broken))
    assert "torn/model.safetensors" in detail
    assert "truncated" in detail


def test_a_default_that_is_not_loaded_is_a_fault(models_dir: Path):
    detail = settled_detail(Settings(models_dir=models_dir, default_model="broken"))
    assert detail == "The default model broken is not among those loaded."


def test_the_configured_default_and_a_link_by_its_own_name(tmp_path: Path, models_dir: Path):
    (tmp_path / "a").symlink_to(models_dir / WORD)
    (tmp_path / "z").symlink_to(models_dir / SUBWORD)
    with TestClient(create_app(Settings(models_dir=tmp_path, default_model="z"))) as client:
        wait_until_ready(client)
        assert client.post("/next-word", json={"text": ""}).json()["model"] == "z"
        assert client.get("/models/a").json()["tokenizer"] == "word"


def test_a_surprise_in_one_checkpoint_leaves_the_others(models_dir, settings, monkeypatch):
    def surprising(folder: Path) -> LanguageModel:
        if folder.name == SUBWORD:
            raise RuntimeError("a bug")
        return load_checkpoint(folder)

    monkeypatch.setattr(registry_module, "load_checkpoint", surprising)
    with structlog.testing.capture_logs(), TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        assert client.get("/ready").json()["models"] == [WORD]


@pytest.mark.parametrize("path", ["/health", "/nothing", "/docs", "/openapi.json"])
def test_a_request_id_is_taken(client: TestClient, path):
    wanted = "A-Za.z_0-9"
    response = client.get(path, headers={"x-request-id": wanted})
    assert response.headers["x-request-id"] == wanted
    if response.status_code == 404:
        assert response.json()["request_id"] == wanted


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "é", "a\tb", "<script>"])
def test_an_unfit_request_id_is_replaced(client: TestClient, given):
    headers = [(b"x-request-id", given.encode())]
    made = [client.get("/health", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(m) == 32 and m != given for m in made)


def test_every_request_is_one_line_in_the_log_without_its_text(client: TestClient):
    with structlog.testing.capture_logs() as lines:
        client.post(
            "/score", json={"text": "SECRET"}, headers={"x-request-id": "one", "x-a": "SECRET"}
        )
        client.post("/score?a=SECRET", content=b"SECRET", headers={"x-request-id": "two"})
        client.get("/models/SECRET")
        client.get("/SECRET")
    assert [line["event"] for line in lines] == ["request"] * 4
    first = lines[0]
    assert first.pop("milliseconds") > 0
    assert first == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "route": "/score",
        "status": 200,
        "request_id": "one",
    }
    assert [(line["route"], line["status"]) for line in lines[1:]] == [
        ("/score", 415),
        ("/models/{name}", 404),
        (None, 404),
    ]
    assert "SECRET" not in str(lines)


def test_a_bug_is_a_problem_and_its_message_stays_out_of_answer_and_log(client, monkeypatch):
    def buggy(*_args: object, **_options: object) -> None:
        raise ValueError("SECRET")

    monkeypatch.setattr("app.answers.next_word", buggy)
    with structlog.testing.capture_logs() as lines:
        response = client.post("/next-word", json={"text": "a"})
    assert response.status_code == 500
    problem = response.json()
    assert problem["title"] == "Internal Server Error"
    assert problem["request_id"] == response.headers["x-request-id"]
    bug, request = lines
    assert (bug["event"], bug["error"], request["status"]) == ("bug", "ValueError", 500)
    assert bug["request_id"] == request["request_id"] == problem["request_id"]
    assert any(place.endswith(" in next_word_answer") for place in bug["places"])
    assert "SECRET" not in response.text + str(lines)

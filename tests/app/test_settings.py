"""Settings come from the environment, and their bounds reach requests."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.application import create_app
from app.schemas.bounds import Bounds
from app.schemas.requests import NextWordRequest, RankRequest, ScoreRequest
from app.settings import Settings

FLOATS = [name.upper() for name, f in Settings.model_fields.items() if f.annotation is float]


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch):
    monkeypatch.setenv("NEXTWORD_PORT", "9001")
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", "/models")
    monkeypatch.setenv("NEXTWORD_DEFAULT_MODEL", "")
    settings = Settings(host="0.0.0.0")
    assert (settings.host, settings.port) == ("0.0.0.0", 9001)
    assert settings.models_dir == Path("/models")
    assert settings.default_model is None
    assert Settings(port=1).port == 1


def test_without_an_environment_only_this_machine_is_served():
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.models_dir == Path("checkpoints")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "http"),
        ("MAX_BODY_BYTES", "0"),
        *((name, value) for name in FLOATS for value in ("inf", "nan", "1e308")),
    ],
)
def test_a_setting_out_of_its_range_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"NEXTWORD_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_every_setting_says_what_it_is_and_its_unit():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_default_model_is_chosen_by_a_rule():
    names = ["b", "everyday-lstm", "a"]
    assert Settings(default_model="b").choose_default(names) == "b"
    assert Settings().choose_default(names) == "everyday-lstm"
    assert Settings().choose_default(["b", "a"]) == "a"


def test_bounds_reach_texts_numbers_lists_and_what_lists_hold():
    bounds = Bounds(
        Settings(max_text_characters=5, max_top_k=10, max_texts=2, max_word_characters=3)
    )
    next_word, score, rank = map(bounds.bind, (NextWordRequest, ScoreRequest, RankRequest))
    assert issubclass(next_word, NextWordRequest)
    good = next_word(text="12345", top_k=10, candidates=["123"])
    assert isinstance(good, NextWordRequest)
    assert next_word(text="", top_k=None).top_k is None
    assert score(text=["12345", ""]).texts == ["12345", ""]
    for schema, values in [
        (next_word, {"text": "123456"}),
        (next_word, {"text": "", "top_k": 11}),
        (next_word, {"text": "", "candidates": ["1234"]}),
        (score, {"text": "123456"}),
        (score, {"text": ["123456"]}),
        (score, {"text": ["", "", ""]}),
        (rank, {"candidates": [{"text": "123456"}]}),
        (rank, {"candidates": [{"text": ""}] * 3}),
    ]:
        with pytest.raises(ValidationError) as refused:
            schema.model_validate(values)
        assert refused.value.error_count() == 1


def test_two_applications_keep_their_own_bounds():
    def published(limit: int) -> int:
        app = create_app(Settings(max_text_characters=limit))
        schemas = app.openapi()["components"]["schemas"]
        return schemas["RankCandidate"]["properties"]["text"]["maxLength"]

    assert [published(10), published(20), published(10)] == [10, 20, 10]


def test_an_application_reads_nothing_before_it_starts(tmp_path):
    assert create_app(Settings(models_dir=tmp_path / "missing")).title == "nextword"

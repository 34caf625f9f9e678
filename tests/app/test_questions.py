"""The questions over HTTP: what models/ says, under the contract's names."""

import math
from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient

from models.forward import run
from models.generate import generate
from models.language_model import LanguageModel
from models.next_word import next_word
from models.rank import rank
from models.score import score
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
BOTH = pytest.mark.parametrize("name", [SUBWORD, WORD])


def ask(client: TestClient, path: str, **body):
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@BOTH
def test_next_word_is_the_models_own_distribution(client, models: Models, name: str):
    answer = ask(client, "/next-word", text="I would", top_k=4, model=name)
    expected = run(next_word(models[name], "I would", top_k=4), models[name])
    assert answer == {
        "model": name,
        "predictions": [asdict(p) for p in expected.predictions],
        "candidates": [],
        "covered_mass": expected.covered_mass,
        "oov_mass": expected.oov_mass,
        "entropy_bits": None,
        "context": {"tokens": expected.context_tokens, "truncated": expected.truncated},
        "proven": True,
    }
    assert len(answer["predictions"]) == 4


def test_next_word_passes_every_option_on(client, models: Models):
    options = {
        "top_k": 3,
        "prefix": "ho",
        "candidates": ["hotel", "coffee"],
        "temperature": 0.5,
        "words_only": False,
        "exclude": ["hot"],
    }
    answer = ask(client, "/next-word", text="a", model=SUBWORD, **options)
    expected = run(next_word(models[SUBWORD], "a", **options), models[SUBWORD])
    assert answer["predictions"] == [asdict(p) for p in expected.predictions]
    assert answer["candidates"] == [asdict(c) for c in expected.candidates]
    assert all(p["word"].startswith("ho") for p in answer["predictions"])
    assert [c["word"] for c in answer["candidates"]] == ["hotel", "coffee"]


def test_next_word_of_a_whole_vocabulary_sums_to_one_and_has_an_entropy(client):
    answer = ask(client, "/next-word", text="you", top_k=None, words_only=False, model=WORD)
    assert answer["covered_mass"] == pytest.approx(1, abs=1e-5)
    assert answer["entropy_bits"] > 0
    assert len(answer["predictions"]) > 20


def test_next_words_in_a_row(client):
    answer = ask(client, "/next-word", text="I", num_words=2, top_k=2, model=WORD)
    assert all(len(p["word"].split()) == 2 for p in answer["predictions"])


def test_a_candidate_outside_the_vocabulary_is_said_to_be(client):
    answer = ask(client, "/next-word", text="", candidates=["xylophone"], model=WORD)
    assert answer["candidates"] == [
        {"word": "xylophone", "probability": None, "log_prob": None, "rank": None, "oov": True}
    ]


def test_a_context_beyond_the_models_reach_is_said_to_be_truncated(client):
    answer = ask(client, "/next-word", text="coffee " * 20, model=WORD)
    assert answer["context"] == {"tokens": 21, "truncated": True}


@BOTH
@pytest.mark.parametrize("eos", [True, False])
def test_word_scores_and_the_end_add_up_to_the_sentence(client, models: Models, name, eos):
    text = "my sister don't like coffee, I think."
    answer = ask(client, "/score", text=text, tokens=True, eos=eos, model=name)
    (result,) = answer["results"]
    assert result == asdict(run(score(models[name], text, eos=eos, words=True), models[name]))
    words = sum(word["log_prob"] for word in result["words"])
    assert words + (result["eos_log_prob"] or 0) == pytest.approx(result["log_prob"], abs=1e-6)
    assert (result["eos_log_prob"] is not None) == eos
    mean = result["log_prob"] / result["scored_tokens"]
    assert result["perplexity"] == pytest.approx(math.exp(-mean))
    assert [text[w["start"] : w["end"]] for w in result["words"]] == [
        w["text"] for w in result["words"]
    ]


@BOTH
def test_texts_of_a_list_are_scored_as_each_alone(client, name):
    texts = ["we sold coffee.", "", "the doctor have seen a hotel room, I think.", "you"]
    together = ask(client, "/score", text=texts, model=name)["results"]
    for text, result in zip(texts, together, strict=True):
        (alone,) = ask(client, "/score", text=text, model=name)["results"]
        assert alone["text"] == result["text"] == text
        assert result["log_prob"] == pytest.approx(alone["log_prob"], abs=1e-4)
        assert result["words"] is None


def test_what_is_not_scored_is_null(client):
    (result,) = ask(client, "/score", text="", eos=False)["results"]
    assert result["scored_tokens"] == 0
    assert result["log_prob"] is result["perplexity"] is result["mean_log_prob"] is None
    (result,) = ask(client, "/score", text="we sold", bos=False, tokens=True, model=WORD)["results"]
    assert [word["log_prob"] is None for word in result["words"]] == [True, False]


def test_the_context_of_a_score_counts(client, models: Models):
    (result,) = ask(client, "/score", text="coffee", context="you don't like")["results"]
    expected = run(score(models[SUBWORD], "coffee", context="you don't like"), models[SUBWORD])
    assert result["log_prob"] == pytest.approx(expected.log_prob)
    (alone,) = ask(client, "/score", text="coffee")["results"]
    assert alone["log_prob"] != pytest.approx(expected.log_prob)


@pytest.mark.parametrize("normalize", ["none", "tokens", "characters"])
def test_rank_orders_as_the_model_does(client, models: Models, normalize):
    candidates = [
        {"text": "I study machine learning."},
        {"text": "learning machine I study.", "score": 3.0},
        {"text": "coffee", "score": -1.5},
    ]
    options = {"context": "you", "lm_weight": 0.7, "length_bonus": 0.2, "normalize": normalize}
    answer = ask(client, "/rank", candidates=candidates, **options)
    model = models[SUBWORD]
    texts = [c["text"] for c in candidates]
    expected = run(rank(model, texts, scores=[0.0, 3.0, -1.5], **options), model)
    assert answer == {"model": SUBWORD, "results": [asdict(r) for r in expected]}
    totals = [result["total"] for result in answer["results"]]
    assert totals == sorted(totals, reverse=True)
    assert sum(r["probability"] for r in answer["results"]) == pytest.approx(1)
    assert sorted(r["index"] for r in answer["results"]) == [0, 1, 2]


@BOTH
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_generate_is_the_models_own_text(client, models: Models, name, strategy):
    options = {"max_tokens": 12, "strategy": strategy, "seed": 5, "n": 2, "num_beams": 3}
    options |= {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.01}
    options |= {"repetition_penalty": 1.1, "stop": ["!"]}
    answer = ask(client, "/generate", text="we sold", model=name, log_probs=True, **options)
    expected = run(generate(models[name], "we sold", **options), models[name])
    assert answer["results"] == [asdict(continuation) for continuation in expected.results]
    assert answer["usage"] == {
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": expected.completion_tokens,
    }
    for result in answer["results"]:
        assert sum(t["log_prob"] for t in result["tokens"]) == pytest.approx(result["log_prob"])


def test_a_seed_gives_the_same_text_again_and_another_seed_another(client):
    def text(seed: int) -> str:
        body = {"text": "you", "strategy": "sample", "max_tokens": 30, "seed": seed}
        return ask(client, "/generate", **body)["results"][0]["text"]

    assert text(3) == text(3)
    assert len({text(seed) for seed in range(5)}) > 1


def test_tokens_are_reported_only_where_asked_for(client):
    (result,) = ask(client, "/generate", text="you", max_tokens=3)["results"]
    assert result["tokens"] is None


def test_a_request_that_names_no_model_gets_the_default(client):
    assert ask(client, "/next-word", text="")["model"] == SUBWORD
    assert ask(client, "/next-word", text="", model=None)["model"] == SUBWORD
    assert ask(client, "/next-word", text="", model=WORD)["model"] == WORD


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "a\nb", "😀👩‍👩‍👧", "\u0000", "ﷺ\u0301", "\ufeff", "\x01\x010", "</s><s><unk>"],
)
@BOTH
def test_every_text_of_unicode_has_an_answer(client, name, text):
    assert ask(client, "/next-word", text=text, model=name)["predictions"]
    assert ask(client, "/score", text=text, context=text, tokens=True, model=name)["results"]
    assert ask(client, "/rank", candidates=[{"text": text}], model=name)["results"]
    assert ask(client, "/generate", text=text, max_tokens=3, model=name)["results"]
    assert "predictions" in ask(client, "/next-word", text="", candidates=["a" + text], model=name)

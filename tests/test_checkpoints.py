"""The models that ship: they load, they tell English from scrambled English, they stay small."""

from pathlib import Path

import pytest

from models.checkpoint import load_checkpoint
from models.forward import run
from models.language_model import LanguageModel
from models.next_word import next_word
from models.rank import rank
from models.score import score

FOLDER = Path(__file__).parent.parent / "checkpoints"
NAMES = ["everyday-lstm", "everyday-transformer"]
BENCHMARK = "wikitext2-lstm"


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return load_checkpoint(FOLDER / request.param)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("I study machine learning", "Machine I learning study"),
        ("My computer is very slow", "My computer is very shirt"),
    ],
)
def test_english_is_more_likely_than_what_is_not(model, better, worse):
    first, second = run(rank(model, [worse, better]), model)
    assert first.text == better
    assert first.log_prob > second.log_prob


def test_next_words_are_the_exact_distribution_of_sensible_words(model):
    text = "I would like to book a"
    answer = run(next_word(model, text, top_k=5), model)
    assert answer.proven
    assert {"hotel", "bus"} & {p.word for p in answer.predictions}
    for p in answer.predictions:
        scored = run(score(model, p.word, context=text, eos=False), model)
        assert scored.log_prob == pytest.approx(p.log_prob, abs=1e-4)


def test_a_typed_beginning_is_kept(model):
    answer = run(next_word(model, "I would like to book a", prefix="ho", top_k=5), model)
    assert len(answer.predictions) == 5
    assert all(p.word.startswith("ho") for p in answer.predictions)
    assert answer.predictions[0].word in ("hotel", "house")


def test_cards_name_the_weights_they_describe(model):
    card = (FOLDER / model.name / "README.md").read_text(encoding="utf-8")
    assert model.checksum in card
    assert "## Metrics" in card
    assert "Tatoeba" in card


def test_what_ships_stays_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < 40_000_000
    assert sorted(path.name for path in FOLDER.iterdir()) == [*NAMES, BENCHMARK]


@pytest.fixture(scope="module")
def benchmark() -> LanguageModel:
    return load_checkpoint(FOLDER / BENCHMARK)


def test_the_benchmark_takes_natural_text(benchmark):
    text = "The film was released in the United"
    answer = run(next_word(benchmark, text, top_k=5), benchmark)
    assert answer.proven
    assert answer.predictions[0].word in ("States", "Kingdom")
    for p in answer.predictions:
        scored = run(score(benchmark, p.word, context=text, eos=False), benchmark)
        assert scored.log_prob == pytest.approx(p.log_prob, abs=1e-4)
    better, worse = "In 1990, its population was 5,000.", "In its, 5,000 population 1990 was."
    assert run(rank(benchmark, [worse, better]), benchmark)[0].text == better
    strange = run(score(benchmark, "The flibbertigibbet sat down."), benchmark)
    assert strange.oov_count == 1


def test_the_benchmark_says_what_it_is(benchmark):
    card = (FOLDER / BENCHMARK / "README.md").read_text(encoding="utf-8")
    assert benchmark.checksum in card
    assert "WikiText-2" in card
    assert "online perplexity per token" in card
    assert benchmark.tokenizer.vocab_size == 33_278

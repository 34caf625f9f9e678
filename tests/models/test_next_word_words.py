"""Next word of word-level models, where the whole distribution is one row; and candidates."""

import math

import numpy as np
import pytest
import torch

from models.errors import InvalidRequestError
from models.forward import run, run_all
from models.language_model import LanguageModel
from models.next_word import next_word
from models.score import score
from tests.models.helpers import CONTEXT, model_of

WORD_KINDS = pytest.mark.parametrize("tokenizer", ["word", "wikitext"])
TEXT = "the cat sees"


def row_of(model, text, temperature=1.0):
    """Return the next token's probabilities (V,), float64, straight from the network."""
    logits, _ = model.network(torch.tensor([model.tokenizer.encode_context(text)]))
    logits = logits[0, -1].double() / model.temperature
    row = torch.log_softmax(logits, -1) / temperature
    return torch.softmax(row, -1).numpy()


def by_text(model, row):
    """Return the probability of each token's text, and of EOS and ``<unk>``, by their names."""
    tokenizer, total = model.tokenizer, {}
    for i, p in enumerate(row):
        name = {tokenizer.eos_id: "EOS", tokenizer.unk_id: "UNK"}.get(i)
        name = name or tokenizer.surface(tokenizer.pieces[i])
        total[name] = total.get(name, 0.0) + p
    return total


@pytest.mark.parametrize("tokenizer", ["word", "wikitext", "subword"])
@pytest.mark.parametrize("kind", ["rnn", "transformer"])
def test_unk_is_never_suggested(tokenizer, kind):
    model = model_of(kind, tokenizer)
    unk = model.tokenizer.unk_id
    if unk is not None:
        model.network.output_bias[unk] += 20
    answer = run(next_word(model, TEXT, top_k=50, words_only=False), model)
    assert "<unk>" not in {p.word for p in answer.predictions}
    assert all(p.word for p in answer.predictions)
    assert (answer.oov_mass > 0.9) == (unk is not None)


@WORD_KINDS
@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
def test_the_whole_vocabulary_with_eos_and_oov_is_certain(tokenizer, temperature):
    model = model_of("gru", tokenizer)
    row = row_of(model, TEXT, temperature)
    expected = by_text(model, row)
    everything = run(
        next_word(model, TEXT, top_k=None, words_only=False, temperature=temperature), model
    )
    total = sum(p.probability for p in everything.predictions)
    assert everything.oov_mass == pytest.approx(expected["UNK"], rel=1e-4)
    assert total + everything.oov_mass + expected["EOS"] == pytest.approx(1, abs=1e-5)
    assert everything.covered_mass == pytest.approx(1, abs=1e-5)
    bits = -(row * np.log2(row)).sum()
    assert everything.entropy_bits == pytest.approx(bits, rel=1e-4)
    for p in everything.predictions:
        assert p.probability == pytest.approx(expected[p.word], rel=1e-4)
    probabilities = [p.probability for p in everything.predictions]
    assert probabilities == sorted(probabilities, reverse=True)

    words = run(next_word(model, TEXT, top_k=None, temperature=temperature), model)
    alone = [p.word for p in everything.predictions if any(map(str.isalnum, p.word))]
    assert [p.word for p in words.predictions] == alone
    top = run(next_word(model, TEXT, top_k=3, temperature=temperature), model)
    assert [p.word for p in top.predictions] == alone[:3]
    assert top.entropy_bits is None


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e300, math.inf])
def test_no_temperature_breaks_the_numbers(temperature):
    model = model_of("gru", "word")
    answer = run(next_word(model, TEXT, top_k=None, temperature=temperature), model)
    assert math.isfinite(answer.entropy_bits)
    assert all(math.isfinite(p.probability) for p in answer.predictions)
    best = answer.predictions[0].probability
    assert best == pytest.approx(1 if temperature < 1 else 1 / model.tokenizer.vocab_size)


def test_the_temperature_of_the_checkpoint_divides_the_logits():
    cold = model_of("gru", "word")
    model = LanguageModel("warm", cold.network, cold.tokenizer, temperature=2.0)
    logits, _ = cold.network(torch.tensor([cold.tokenizer.encode_context(TEXT)]))
    expected = torch.softmax(logits[0, -1] / 2, -1)
    for p in run(next_word(model, TEXT, top_k=None), model).predictions:
        (spelling,) = model.tokenizer.spellings(p.word)
        assert p.probability == pytest.approx(float(expected[spelling[0]]), rel=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_candidates_are_reported_in_and_out_of_the_list(kind):
    model = model_of(kind)
    top = run(next_word(model, TEXT, top_k=5), model)
    listed, other = top.predictions[2].word, "zebra"
    asked = [other, listed, "New York", "dogs,", listed]
    answer = run(next_word(model, TEXT, top_k=5, candidates=asked), model)
    assert answer.predictions == top.predictions
    assert [c.word for c in answer.candidates] == asked
    for candidate in answer.candidates:
        scored = run(score(model, candidate.word, context=TEXT, eos=False), model)
        assert candidate.log_prob == pytest.approx(scored.log_prob, abs=1e-4)
        assert candidate.probability == pytest.approx(math.exp(scored.log_prob), rel=1e-4)
        assert candidate.oov is False
    assert [c.rank for c in answer.candidates] == [None, 3, None, None, 3]


@pytest.mark.parametrize("mark", [",", "(", "'", "😀"])
def test_a_candidate_mark_adds_up_over_its_spellings(mark):
    model = model_of("lstm")
    spellings = model.tokenizer.spellings(mark)
    assert len(spellings) == 4
    context = model.tokenizer.encode_context(TEXT)
    total = 0.0
    for ids in spellings:
        logits, _ = model.network(torch.tensor([context + ids]))
        rows = torch.log_softmax(logits[0, len(context) - 1 :].double(), -1)
        total += math.exp(sum(float(rows[i, token]) for i, token in enumerate(ids)))
    answer = run(next_word(model, TEXT, candidates=[mark]), model)
    assert answer.candidates[0].probability == pytest.approx(total, rel=1e-4)


@WORD_KINDS
def test_a_candidate_outside_the_vocabulary_is_oov(tokenizer):
    model = model_of("lstm", tokenizer)
    answer = run(next_word(model, TEXT, candidates=["zebra", "the", "the zebra"]), model)
    zebra, the, both = answer.candidates
    assert zebra.oov
    assert both.oov
    assert zebra.probability is zebra.log_prob is zebra.rank is None
    assert not the.oov
    (ids,) = model.tokenizer.spellings("the")
    assert the.probability == pytest.approx(row_of(model, TEXT)[ids[0]], rel=1e-4)


def test_a_candidate_is_given_the_prefix_too():
    model = model_of("lstm", "word")
    plain = run(next_word(model, TEXT, candidates=["the", "teacher's", "cat"]), model)
    typed = run(next_word(model, TEXT, candidates=["the", "teacher's", "cat"], prefix="t"), model)
    begins = [i for i, p in enumerate(model.tokenizer.pieces) if p.startswith(b"t")]
    mass = row_of(model, TEXT)[begins].sum()
    for before, after in zip(plain.candidates[:2], typed.candidates[:2], strict=True):
        assert after.probability == pytest.approx(before.probability / mass, rel=1e-4)
    assert typed.candidates[2].probability == 0
    assert typed.candidates[2].log_prob is None
    assert not typed.candidates[2].oov


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_long_context_is_read_and_its_loss_told(kind):
    model = model_of(kind, "word")
    text = "the cat sees a dog " * 600
    answer = run(next_word(model, text, top_k=3), model)
    assert answer.context_tokens == 3001
    assert answer.truncated == (kind == "transformer")
    row = by_text(model, row_of(model, text))
    for p in answer.predictions:
        assert p.probability == pytest.approx(row[p.word], rel=1e-3)
    short = run(next_word(model, "the cat", top_k=1), model)
    assert (short.context_tokens, short.truncated) == (3, False)
    exact = run(next_word(model, "the " * (CONTEXT - 1), top_k=1), model)
    assert (exact.context_tokens, exact.truncated) == (CONTEXT, False)


@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_the_empty_text_is_the_start_of_a_sentence(tokenizer):
    model = model_of("lstm", tokenizer)
    answer = run(next_word(model, "", top_k=3), model)
    assert answer.context_tokens == 1
    assert len(answer.predictions) == 3
    assert run(next_word(model, " \n ", top_k=3), model).predictions == answer.predictions


def test_questions_side_by_side_are_answered_as_alone():
    model = model_of("transformer")
    questions = [
        {"text": "the cat sees", "top_k": 4},
        {"text": "", "top_k": 7, "words_only": False},
        {"text": "a dog is very slow. Anna", "prefix": "d", "candidates": ["doesn't"]},
        {"text": "New York\nthe", "num_words": 2, "top_k": 2, "temperature": 0.5},
    ]
    together = run_all([next_word(model, **question) for question in questions], model)
    for question, answer in zip(questions, together, strict=True):
        alone = run(next_word(model, **question), model)
        assert [p.word for p in answer.predictions] == [p.word for p in alone.predictions]
        for one, other in zip(answer.predictions, alone.predictions, strict=True):
            assert one.probability == pytest.approx(other.probability, rel=1e-4)
        assert answer.covered_mass == pytest.approx(alone.covered_mass, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"top_k": None}, "top_k"),
        ({"top_k": 0}, "top_k"),
        ({"num_words": 0}, "num_words"),
        ({"num_words": 2, "words_only": False}, "words_only"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"candidates": ["the", " "]}, "candidates"),
    ],
)
def test_what_cannot_be_answered_is_refused(arguments, field):
    model = model_of("rnn")
    with pytest.raises(InvalidRequestError, match=field) as refused:
        run(next_word(model, "a secret", **arguments), model)
    assert refused.value.field == field
    assert "secret" not in str(refused.value)


def test_a_whole_vocabulary_of_phrases_is_refused():
    model = model_of("rnn", "word")
    with pytest.raises(InvalidRequestError, match="top_k"):
        run(next_word(model, "", top_k=None, num_words=2), model)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_reading_beginnings_again_saves_room_and_changes_nothing(kind, monkeypatch):
    """A state of thousands of bytes is not kept for each of thousands of beginnings."""
    model = model_of(kind, context_length=200) if kind == "transformer" else model_of(kind)
    asked = {"text": "the cat sees a dog " * 8, "top_k": 5, "num_words": 2, "prefix": "d"}
    answers = []
    for kept in (0, 1 << 30):
        monkeypatch.setattr("models.frontier._KEPT_STATE", kept)
        answers.append(run(next_word(model, **asked), model))
    assert [p.word for p in answers[0].predictions] == [p.word for p in answers[1].predictions]
    for one, other in zip(*(answer.predictions for answer in answers), strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-4)

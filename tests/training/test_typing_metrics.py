"""Words found and keystrokes saved, against an enumeration of the whole vocabulary."""

import numpy as np
import pytest
import torch

from models.checkpoint import load_checkpoint
from models.forward import run
from models.next_word import next_word
from tests.training.conftest import random_model
from tests.training.grammar import WORDS, text, write
from training.evaluate import evaluate
from training.running_text import read_running_text
from training.typing_metrics import SUGGESTIONS, answer_positions, draw_positions


@pytest.fixture
def path(tmp_path, grammar):
    return write(tmp_path / "notes" / "valid.txt", grammar.lines(12, seed=8))


@pytest.fixture
def model(checkpoint):
    return load_checkpoint(checkpoint[0])


def _enumerate(model, path):
    """Every place of a text of single-token words: its word, and all words by probability."""
    tokenizer = model.tokenizer
    known = {
        w: i for w in WORDS for i in [tokenizer.encode(w).token_ids[0]] if i != tokenizer.unk_id
    }
    state, before = None, tokenizer.bos_id
    for line in path.read_text().splitlines():
        if tokenizer.kind != "wikitext":
            state, before = None, tokenizer.bos_id
        for word in [*line.split(), None]:
            logits, state = model.network(torch.tensor([[before]]), state)
            probabilities = torch.softmax(logits[0, 0], -1)
            ranked = sorted(known, key=lambda w: -probabilities[known[w]])
            yield word, ranked, float(probabilities[known[ranked[0]]])
            before = tokenizer.eos_id if word is None else known.get(word, tokenizer.unk_id)


@pytest.mark.parametrize("tokenizer", ["word", "wikitext"])
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_every_figure_equals_enumeration(path, tokenizers, kind, tokenizer):
    model = random_model(kind, tokenizers[tokenizer])
    if tokenizer == "wikitext":  # it would write "don 't": two words
        path.write_text(path.read_text().replace("don't", "dont"))
    places = list(_enumerate(model, path))
    words = [(word, ranked) for word, ranked, _ in places if word]
    ranks = [ranked.index(word) + 1 if word in ranked else np.inf for word, ranked in words]

    def keystrokes(word: str, ranked: list[str], length: int) -> int:
        if word not in ranked:  # unknown, and written as <unk> for all that the model knows
            return len("<unk>") + 1
        for typed in range(len(word)):
            fitting = [other for other in ranked if other.startswith(word[:typed])]
            if word in fitting[:length]:
                return typed + 1
        return len(word) + 1

    metrics = evaluate(model, path, sample=10_000).metrics
    assert metrics["recall_at_1"].value == pytest.approx(np.mean([r <= 1 for r in ranks]))
    assert metrics["recall_at_3"].value == pytest.approx(np.mean([r <= 3 for r in ranks]))
    expected = np.mean([1 / r if r <= 10 else 0 for r in ranks])
    assert metrics["mean_reciprocal_rank"].value == pytest.approx(expected)
    full = sum((len(word) if word in ranked else 5) + 1 for word, ranked in words)
    for length in SUGGESTIONS:
        used = sum(keystrokes(word, ranked, length) for word, ranked in words)
        found = metrics[f"keystroke_savings_{length}"]
        assert found.value == pytest.approx(1 - used / full)
        assert found.count == len(words)
        assert found.interval[0] <= found.value <= found.interval[1]
    calibration = metrics["next_word_calibration_error"]
    assert calibration.count == len(places)
    gaps: dict[int, float] = {}
    for word, ranked, probability in places:
        bin_ = min(14, int(probability * 15))
        gaps[bin_] = gaps.get(bin_, 0.0) + probability - (word == ranked[0])
    assert calibration.value == pytest.approx(sum(map(abs, gaps.values())) / len(places), abs=1e-6)


def test_pieces_of_words_equal_the_question_that_users_ask(path, model):
    running = read_running_text(path, model.tokenizer)
    positions = draw_positions(running, model.tokenizer, 40, seed=1)
    lines = path.read_text().splitlines()
    for answer in answer_positions(model, running, positions):
        position = answer.position
        before = model.tokenizer.decode(running.documents[position.document][: position.offset])
        assert lines[position.document].startswith(before)
        listed = [p.word for p in run(next_word(model, before, top_k=10), model).predictions]
        word = position.word
        if word is None:
            assert before == lines[position.document]
            continue
        assert answer.rank == (listed.index(word) + 1 if word in listed else None)
        assert answer.hit == (listed[0] == word)
        for length, cost in zip(SUGGESTIONS, answer.keystrokes, strict=True):
            typed = cost - 1
            if typed and "'" not in word[: typed + 1]:
                shown = _suggested(model, before, word[: typed - 1], length)
                assert word not in shown
            if typed < len(word) and "'" not in word[: typed + 1]:
                assert word in _suggested(model, before, word[:typed], length)


def _suggested(model, before: str, prefix: str, length: int) -> list[str]:
    found = run(next_word(model, before, prefix=prefix, top_k=length), model)
    return [prediction.word for prediction in found.predictions]


def test_positions_are_drawn_without_repetition_and_reproducibly(path, tokenizers, grammar):
    tokenizer = tokenizers["subword"]
    running = read_running_text(path, tokenizer)
    everything = draw_positions(running, tokenizer, 10**6, seed=0)
    lines = path.read_text().splitlines()
    assert [p.word for p in everything] == [w for line in lines for w in [*line.split(), None]]
    some = draw_positions(running, tokenizer, 20, seed=0)
    assert len(set(some)) == 20
    assert some == draw_positions(running, tokenizer, 20, seed=0)
    assert some != draw_positions(running, tokenizer, 20, seed=1)
    assert set(some) <= set(everything)


def test_punctuation_is_no_word(tmp_path, tokenizers):
    path = tmp_path / "valid.txt"
    path.write_text("the cat, don't!\n")
    tokenizer = tokenizers["subword"]
    positions = draw_positions(read_running_text(path, tokenizer), tokenizer, 99, seed=0)
    assert [p.word for p in positions] == ["the", "cat", None, "don't", None, None]


def test_a_model_that_knows_saves_all_but_a_keystroke_a_word(tmp_path, tokenizers):
    path = tmp_path / "valid.txt"
    path.write_text("cat\n" * 30)
    model = random_model("lstm", tokenizers["word"])
    for parameter in model.network.parameters():
        parameter.zero_()
    model.network.output_bias[model.tokenizer.encode("cat").token_ids[0]] = 20.0
    metrics = evaluate(model, path, sample=1000).metrics
    assert metrics["recall_at_1"].value == 1.0
    assert metrics["keystroke_savings_3"].value == pytest.approx(1 - 1 / 4)
    # Half of the places are ends of line, of which the model is sure that they are cats.
    assert metrics["next_word_calibration_error"].value == pytest.approx(0.5, abs=1e-3)


def test_text_helper_writes_words(grammar):
    assert text([[0, 2]]) == "the cat\n"

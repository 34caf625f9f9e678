"""Beam search against every sequence there is, and against greedy."""

import itertools
import math

import numpy as np
import pytest

from models.forward import run
from models.generate import generate
from models.tokenizers import train_tokenizer
from tests.models.enumeration import log_softmax
from tests.models.helpers import model_of, told_model

WORDS = train_tokenizer("word", ["a b c"], vocab_size=10)  # with EOS and <unk>: five tokens
STEPS = 3


def random_model(seed, *, eos=0.0):
    def logits(history):
        row = np.random.default_rng((seed, *history)).normal(0, 1.5, WORDS.vocab_size)
        row[WORDS.eos_id] += eos
        return row

    return told_model(WORDS, logits)


def every_sequence(model, steps):
    """Return each finished or full sequence and its tokens' log-probabilities, best mean first."""
    found = []
    allowed = [i for i in range(WORDS.vocab_size) if i != WORDS.unk_id]
    for length in range(1, steps + 1):
        for ids in itertools.product(allowed, repeat=length):
            ended = ids[-1] == WORDS.eos_id
            if WORDS.eos_id in ids[:-1] or (length < steps and not ended):
                continue
            history, values = (WORDS.bos_id,), []
            for token in ids:
                values.append(log_softmax(model.network.tell(history))[token])
                history = (*history, token)
            found.append((ids, values))
    return sorted(found, key=lambda pair: -np.mean(pair[1]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eos", [-2.0, 0.0, 2.0])
def test_with_room_for_everything_it_is_exhaustive(seed, eos):
    model = random_model(seed, eos=eos)
    expected = every_sequence(model, STEPS)
    beams = WORDS.vocab_size**STEPS
    question = generate(model, "", strategy="beam", num_beams=beams, n=10, max_tokens=STEPS)
    results = run(question, model).results
    assert len(results) == 10
    for result, (ids, values) in zip(results, expected, strict=False):
        assert result.text == WORDS.decode(ids)
        assert result.log_prob == pytest.approx(sum(values), abs=1e-5)
        assert [t.log_prob for t in result.tokens] == pytest.approx(values, abs=1e-5)
        ended = ids[-1] == WORDS.eos_id
        assert result.finish_reason == ("stop" if ended else "length")
        assert len(result.tokens) == len(ids)
        assert (result.tokens[-1].text == "") == ended


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_one_beam_is_greedy_where_no_sentence_ends(kind, tokenizer):
    model = model_of(kind, tokenizer)
    model.network.output_bias[model.tokenizer.eos_id] -= 50
    for prompt in ("", "the cat sees", "Anna's"):
        greedy = run(generate(model, prompt, max_tokens=8), model)
        beam = run(generate(model, prompt, strategy="beam", num_beams=1, max_tokens=8), model)
        assert beam.results[0].text == greedy.results[0].text
        assert beam.results[0].log_prob == pytest.approx(greedy.results[0].log_prob, rel=1e-5)
        assert beam.results[0].finish_reason == "length"


def test_more_beams_find_better_sequences():
    model = model_of("gru", "subword")
    model.network.output_bias[model.tokenizer.eos_id] -= 50
    best = [
        run(
            generate(model, "the", strategy="beam", num_beams=beams, max_tokens=6), model
        ).results[0].log_prob
        for beams in (1, 200)
    ]  # fmt: skip
    assert best[1] >= best[0]


def test_results_are_distinct_and_in_order_of_their_means():
    model = random_model(3)
    results = run(
        generate(model, "a", strategy="beam", num_beams=6, n=6, max_tokens=7), model
    ).results
    means = [result.log_prob / len(result.tokens) for result in results]
    assert means == sorted(means, reverse=True)
    assert len({(result.text, result.finish_reason) for result in results}) == 6
    assert all(math.isclose(r.log_prob, sum(t.log_prob for t in r.tokens)) for r in results)


def test_a_stop_string_finishes_a_beam():
    model = random_model(1, eos=-30.0)
    results = run(
        generate(model, "", strategy="beam", num_beams=4, n=4, max_tokens=6, stop=["b"]), model
    ).results
    assert "stop" in {result.finish_reason for result in results}
    for result in results:
        assert "b" not in result.text
        written = [token.text for token in result.tokens]
        assert (written[-1] == "b") == (result.finish_reason == "stop")
        assert "b" not in written[:-1]


def test_a_beam_is_not_streamed():
    model, streamed = random_model(1), []
    asked = {"strategy": "beam", "max_tokens": 4, "stop": ["c"]}
    run(generate(model, "a", on_text=lambda *new: streamed.append(new), **asked), model)
    assert streamed == []

"""Continuations token by token: against a plain loop, seeded, filtered, never the unspeakable."""

import math

import numpy as np
import pytest
import torch

from models.errors import InvalidRequestError
from models.forward import run, run_all
from models.generate import generate
from tests.models.helpers import KINDS, model_of, tokenizer_of, told_model

PROMPT = "the cat sees"


def greedy_by_hand(model, prompt, steps):
    """Return the most probable token ids, one network call on everything for each."""
    tokenizer = model.tokenizer
    ids, found, total = tokenizer.encode_context(prompt), [], 0.0
    for _ in range(steps):
        logits, _ = model.network(torch.tensor([ids + found]))
        row = torch.log_softmax(logits[0, -1].double(), -1)
        scored = row.clone()
        if tokenizer.unk_id is not None:
            row[tokenizer.unk_id] = -math.inf
        found.append(int(row.argmax()))
        total += float(scored[found[-1]])
        if found[-1] == tokenizer.eos_id:
            break
    return found, total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_greedy_is_the_argmax_loop(kind, tokenizer):
    model = model_of(kind, tokenizer)
    expected, total = greedy_by_hand(model, PROMPT, 12)
    answer = run(generate(model, PROMPT, max_tokens=12), model)
    (result,) = answer.results
    assert answer.completion_tokens == len(result.tokens) == len(expected)
    assert answer.prompt_tokens == len(model.tokenizer.encode_context(PROMPT))
    assert result.log_prob == pytest.approx(total, rel=1e-4)
    assert result.log_prob == pytest.approx(sum(token.log_prob for token in result.tokens))
    ended = expected[-1] == model.tokenizer.eos_id
    assert result.finish_reason == ("stop" if ended else "length")
    written = [i for i in expected if i != model.tokenizer.eos_id]
    texts = [model.tokenizer.surface(model.tokenizer.pieces[i]) for i in written]
    assert [token.text for token in result.tokens] == [*texts, ""][: len(expected)]
    if tokenizer != "wikitext":
        whole = model.tokenizer.decode([*model.tokenizer.encode(PROMPT).token_ids, *written])
        assert PROMPT + result.text == whole


@pytest.mark.parametrize("tokenizer", ["subword", "word"])
def test_temperature_zero_is_greedy(tokenizer):
    model = model_of("gru", tokenizer)
    asked = {"max_tokens": 10, "repetition_penalty": 1.5}
    greedy = run(generate(model, PROMPT, **asked), model)
    cold = run(generate(model, PROMPT, strategy="sample", temperature=0, **asked), model)
    assert cold == greedy


def test_a_seed_gives_the_same_text_alone_and_in_company():
    model = model_of("lstm")
    questions = [
        {"text": text, "seed": seed, "n": n, "strategy": "sample", "max_tokens": 10}
        for seed, (text, n) in enumerate([(PROMPT, 1), ("", 3), ("Anna", 1), (PROMPT, 2)])
    ]
    alone = [run(generate(model, **question), model) for question in questions]
    assert alone == [run(generate(model, **question), model) for question in questions]
    together = run_all([generate(model, **question) for question in questions], model)
    for one, other in zip(alone, together, strict=True):
        assert [r.text for r in one.results] == [r.text for r in other.results]
        for a, b in zip(one.results, other.results, strict=True):
            assert a.log_prob == pytest.approx(b.log_prob, rel=1e-4)
    texts = {r.text for answer in alone for r in answer.results}
    assert len(texts) == 7  # other seeds, and the other continuations of one, say other things
    more = run(generate(model, PROMPT, seed=0, n=3, strategy="sample", max_tokens=10), model)
    assert more.results[0].text == alone[0].results[0].text


def test_without_a_seed_texts_differ():
    model = model_of("lstm")
    texts = {
        run(generate(model, "", strategy="sample", max_tokens=20), model).results[0].text
        for _ in range(5)
    }
    assert len(texts) > 1


def test_sampling_follows_the_model():
    """First tokens of 3000 continuations against the network's own distribution."""
    model, draws = model_of("gru", "word"), 3000
    tokenizer = model.tokenizer
    asked = {"strategy": "sample", "max_tokens": 1, "seed": 5, "n": draws, "temperature": 0.7}
    answer = run(generate(model, PROMPT, **asked), model)
    logits, _ = model.network(torch.tensor([tokenizer.encode_context(PROMPT)]))
    row = logits[0, -1].double()
    row[tokenizer.unk_id] = -math.inf
    expected = torch.softmax(row / 0.7, -1).numpy()
    raw = torch.log_softmax(logits[0, -1].double(), -1).numpy()
    by_log_prob = {}
    for result in answer.results:
        by_log_prob[result.log_prob] = by_log_prob.get(result.log_prob, 0) + 1
    counts = np.zeros(len(expected))
    for log_prob, count in by_log_prob.items():
        counts[np.abs(raw - log_prob).argmin()] += count
    often = draws * expected > 5
    chi_square = ((counts - draws * expected) ** 2 / np.maximum(draws * expected, 1e-9))[often]
    degrees = often.sum() - 1
    assert degrees > 5
    assert chi_square.sum() < degrees + 4 * math.sqrt(2 * degrees)
    assert counts[tokenizer.unk_id] == 0


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_unk_and_bos_are_never_generated(strategy, tokenizer):
    model = model_of("gru", tokenizer)
    forbidden = {model.tokenizer.unk_id} - {None}
    model.network.output_bias[list(forbidden)] += 50
    answer = run(generate(model, "zebra the", strategy=strategy, max_tokens=20, seed=1, n=2), model)
    for result in answer.results:
        assert "<unk>" not in result.text
        assert "<s>" not in result.text
        # What the model wanted is still in the numbers: a score is never renormalised.
        if forbidden:
            assert all(token.log_prob < -20 for token in result.tokens)


def test_a_repetition_penalty_turns_from_what_was_said():
    tokenizer = tokenizer_of("word")
    the, cat, dog = (tokenizer.spellings(w)[0][0] for w in ("the", "cat", "dogs"))
    row = np.full(tokenizer.vocab_size, -30.0)
    row[[the, cat, dog]] = np.log([0.5, 0.3, 0.2])
    model = told_model(tokenizer, lambda history: row)

    def said(penalty, prompt=""):
        asked = {"max_tokens": 3, "repetition_penalty": penalty}
        return run(generate(model, prompt, **asked), model).results[0]

    assert said(1.0).text == "the the the"
    # 0.5 twice is 0.25; 0.3 comes before it, 0.2 behind; then 0.09 falls behind 0.2 and 0.25.
    assert said(2.0).text == "the cat the"
    assert said(2.0, "the").text == " cat the the"
    penalised = [token.log_prob for token in said(2.0).tokens]
    assert penalised == pytest.approx(np.log([0.5, 0.3, 0.5]), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"strategy": "beam", "n": 5, "num_beams": 4}, "n"),
        ({"strategy": "beam", "n": 1, "num_beams": 0}, "num_beams"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", ""]}, "stop"),
        ({"strategy": "sample", "temperature": -0.1}, "temperature"),
        ({"strategy": "sample", "temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": -0.1}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"seed": -1}, "seed"),
        ({"strategy": "magic"}, "strategy"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, field):
    model = model_of("rnn")
    with pytest.raises(InvalidRequestError) as refused:
        run(generate(model, "a", **arguments), model)
    assert refused.value.field == field


def test_a_seed_may_be_any_size():
    model = model_of("rnn")
    run(generate(model, "a", strategy="sample", seed=2**200, max_tokens=2), model)

"""The text of a continuation: joined to its prompt, streamed word by word, ended by a stop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.forward import run
from models.generate import generate
from tests.models.helpers import bounded, model_of, tokenizer_of, told_model

SUBWORD = tokenizer_of("subword")


def saying(ids, tokenizer=SUBWORD, prompt=""):
    """Return a model that says these tokens behind the prompt, and then an end of sentence."""
    start = len(tokenizer.encode_context(prompt))

    def logits(history):
        row = np.zeros(tokenizer.vocab_size)
        said = len(history) - start
        row[ids[said] if 0 <= said < len(ids) else tokenizer.eos_id] = 30
        return row

    return told_model(tokenizer, logits)


def behind(prompt, text):
    """Return the tokens of ``text`` as they stand directly behind ``prompt``."""
    before = SUBWORD.encode(prompt).token_ids
    whole = SUBWORD.encode(prompt + text).token_ids
    assert whole[: len(before)] == before
    return whole[len(before) :]


def answer_to(prompt, ids, tokenizer=SUBWORD, **arguments):
    """Return the result of greedy generation and the pieces that were streamed."""
    streamed = []
    model = saying(ids, tokenizer, prompt)
    answer = run(
        generate(
            model,
            prompt,
            on_text=lambda index, text: streamed.append((index, text)),
            **{"max_tokens": 60} | arguments,
        ),
        model,
    )
    assert {index for index, _ in streamed} <= {0}
    assert all(text for _, text in streamed)
    return answer.results[0], [text for _, text in streamed]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("the cat", " sees a dog."),
        ("the cat", ", (again)!"),
        ("the cat's", " friend"),
        ("", "Anna can't find it, 'tis late."),
        ("the", " 漢字 naïve 😀! \x01 x"),
        ("Anna.", " The dog"),
    ],
)
def test_prompt_and_continuation_read_as_one_text(prompt, text):
    result, streamed = answer_to(prompt, behind(prompt, text))
    assert result.text == text
    assert "".join(streamed) == text
    assert result.finish_reason == "stop"
    assert result.tokens[-1].text == ""


@pytest.mark.parametrize("space", [" ", "  ", "\n", "\t", "\n\n"])
def test_behind_a_space_there_is_no_second_one(space):
    prompt = "the cat" + space
    ids = SUBWORD.encode("sees a dog.").token_ids
    result, streamed = answer_to(prompt, ids)
    assert prompt + result.text == f"the cat{space}sees a dog."
    assert "".join(streamed) == result.text


def test_a_mark_with_nothing_to_join_shows_no_join_mark():
    comma = behind("a", ", b")
    result, streamed = answer_to("", comma)
    assert result.text == "".join(streamed) == ", b"


def test_words_are_streamed_whole():
    text = " doesn't understand, 漢字 😀"
    result, streamed = answer_to("Anna", behind("Anna", text))
    assert result.text == text
    assert streamed == [" doesn't", " understand", ",", " 漢字", " 😀"]


def test_a_last_word_that_was_cut_off_is_written_out():
    ids = behind("a", " zqzq")
    assert len(ids) > 3
    result, streamed = answer_to("a", ids, max_tokens=2)
    assert result.finish_reason == "length"
    assert result.text == "".join(streamed) == " zq"
    assert [token.text for token in result.tokens] == ["z", "q"]


@pytest.mark.parametrize(
    ("stop", "left"),
    [
        (["dog"], " sees a "),
        ([" dog"], " sees a"),
        (["s a d"], " see"),
        (["og. T"], " sees a d"),
        ([". The end"], " sees a dog"),
        (["nothing such"], " sees a dog. The end, again"),
        (["again!", "e dog"], " sees a dog. The end, again"),
        (["end", "dog"], " sees a "),
        (["dog. The", "dog"], " sees a "),
        ([" "], ""),
        ([","], " sees a dog. The end"),
    ],
)
def test_a_stop_string_ends_the_text_and_nothing_of_it_leaks(stop, left):
    text = " sees a dog. The end, again"
    result, streamed = answer_to("the cat", behind("the cat", text), stop=stop)
    assert result.text == left
    assert "".join(streamed) == left
    assert result.finish_reason == "stop"


def test_a_stop_string_in_the_prompt_does_not_count():
    result, _ = answer_to("the dog", behind("the dog", " sees a dog"), stop=["dog"])
    assert result.text == " sees a "


def test_a_stop_string_within_a_last_word_cut_off_is_a_stop():
    ids = behind("a", " zqzqzq")
    result, streamed = answer_to("a", ids, max_tokens=4, stop=["qz"])
    assert result.text == "".join(streamed) == " z"
    assert result.finish_reason == "stop"


WORDS = st.lists(
    st.sampled_from(["the", "a", "ab", "Anna", "doesn't", ",", ".", "(", "漢", "😀", "a-b", "aa"]),
    min_size=1,
    max_size=8,
)


@given(WORDS, st.lists(st.text("ab,. (the漢", min_size=1, max_size=4), max_size=3))
@bounded(150)
def test_streamed_pieces_are_the_text_up_to_the_first_stop(words, stop):
    text = " " + " ".join(words)
    result, streamed = answer_to("Anna", behind("Anna", text), stop=stop)
    borders = [at for at in (text.find(s) for s in stop) if at >= 0]
    assert result.text == text[: min(borders, default=len(text))]
    assert "".join(streamed) == result.text


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=25),
    st.sampled_from(["", "The cat", 'the " dog', "It is 3.5", "play-", "the cat ", "("]),
)
@bounded(200)
def test_whatever_is_said_in_corpus_style_streams_to_its_text(numbers, prompt):
    """Moses' rules look at both neighbours, quotation marks at all that went before."""
    tokenizer = tokenizer_of("wikitext")
    allowed = [
        i for i in range(tokenizer.vocab_size) if i not in (tokenizer.eos_id, tokenizer.unk_id)
    ]
    ids = [allowed[n % len(allowed)] for n in numbers]
    result, streamed = answer_to(prompt, ids, tokenizer)
    assert "".join(streamed) == result.text
    assert "@" not in result.text
    spoken = "".join(tokenizer.surface(tokenizer.pieces[i]) for i in ids)
    assert "".join(result.text.split()) == spoken


@given(
    st.lists(st.integers(0, 319), min_size=1, max_size=25), st.sampled_from(["", "the", "(", "a "])
)
@bounded(200)
def test_any_tokens_stream_to_their_text(ids, prompt):
    result, streamed = answer_to(prompt, [i for i in ids if i != SUBWORD.eos_id])
    assert "".join(streamed) == result.text


def test_each_of_several_continuations_has_its_own_stream():
    model, streams = model_of("lstm"), {}

    def note(index, text):
        streams[index] = streams.get(index, "") + text

    answer = run(
        generate(model, "the", strategy="sample", seed=3, n=4, max_tokens=12, on_text=note), model
    )
    assert [streams[i] for i in range(4)] == [result.text for result in answer.results]

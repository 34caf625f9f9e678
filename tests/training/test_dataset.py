from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset import Dataset, concatenate, prepare

BOS, EOS = 99, 0
documents = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=12)


def _dataset(texts: list[list[int]]) -> Dataset:
    tokens = np.array([token for text in texts for token in text], dtype=np.uint16)
    return Dataset(tokens, np.cumsum([0, *map(len, texts)]), BOS, EOS)


@given(documents, st.integers(0, 5) | st.none())
@settings(deadline=None)
def test_an_epoch_predicts_each_token_once_behind_the_one_before_it(texts, seed):
    dataset = _dataset(texts)
    epoch = dataset.epoch(seed)
    inputs, targets, begins = epoch.read(np.arange(len(dataset)))
    expected = [texts[i] for i in epoch.order]
    assert sorted(epoch.order) == list(range(len(texts)))
    assert targets.tolist() == [token for text in expected for token in text]
    # BOS is read at the beginning of a document, and there only.
    assert inputs.tolist() == [token for text in expected for token in [BOS, *text[:-1]]]
    assert begins.tolist() == (inputs == BOS).tolist()


def _lines(text: list[int]) -> list[list[int]]:
    """Return the lines of a document, each with its end."""
    ends = [i + 1 for i, token in enumerate(text) if token == EOS]
    return [text[a:b] for a, b in pairwise([0, *ends])]


@given(documents, st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None)
def test_documents_taken_apart_begin_with_each_line(texts, seed, share):
    texts = [[*text, EOS] for text in texts]
    epoch = _dataset(texts).epoch(seed, lines_alone=share)
    inputs, targets, begins = epoch.read(np.arange(sum(map(len, texts))))
    assert inputs.tolist() == np.where(begins, BOS, np.roll(targets, 1)).tolist()
    read = [part.tolist() for part in np.split(targets, np.flatnonzero(begins)[1:])]
    whole = Counter(map(tuple, read))
    apart = 0
    for text in texts:
        if whole[tuple(text)]:
            whole[tuple(text)] -= 1
        else:
            apart += 1
            whole.subtract(map(tuple, _lines(text)))
    assert not any(whole.values())
    if share == 0.0:
        assert not apart
    elif share == 1.0:
        assert max(map(len, read)) == max(len(line) for text in texts for line in _lines(text))


def test_what_is_taken_apart_is_drawn_anew_each_epoch_and_alike_for_a_seed():
    dataset = _dataset([[1, EOS, 2, EOS]] * 200)
    starts = [tuple(dataset.epoch(seed, lines_alone=0.3).starts) for seed in (1, 2, 1)]
    assert starts[0] == starts[2] != starts[1]
    assert all(240 < len(each) - 1 < 280 for each in starts)  # 200 and 30% of them


@given(documents, st.integers(1, 4))
@settings(deadline=None)
def test_streams_read_what_one_stream_reads(texts, streams):
    epoch = _dataset(texts).epoch(1)
    length = len(epoch.dataset) // streams
    positions = np.arange(streams * length).reshape(streams, length)
    whole = epoch.read(np.arange(streams * length))
    for streamed, flat in zip(epoch.read(positions), whole, strict=True):
        assert streamed.shape == (streams, length)
        assert streamed.ravel().tolist() == flat.tolist()


def test_documents_are_shuffled_anew_each_epoch_and_alike_for_a_seed():
    dataset = _dataset([[i] for i in range(50)])
    orders = [tuple(dataset.epoch(seed).order) for seed in (1, 2, 3, 1)]
    assert len(set(orders)) == 3
    assert orders[0] == orders[3]
    assert tuple(dataset.epoch(None).order) == tuple(range(50))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat\nthe dog ran\n")
    return path


def test_a_prepared_file_holds_its_lines_each_ended(path, tmp_path, tokenizers):
    tokenizer = tokenizers["word"]
    lines: list[int] = []
    dataset = prepare(path, tokenizer, tmp_path / "data", progress=lines.append)
    encoded = tokenizer.encode_lines(["the cat sat", "the dog ran"])
    assert dataset.tokens.tolist() == [*encoded[0], tokenizer.eos_id, *encoded[1], tokenizer.eos_id]
    assert dataset.starts.tolist() == [0, 4, 8]
    assert sum(lines) == 2
    again = prepare(path, tokenizer, tmp_path / "data", progress=lines.append)
    assert sum(lines) == 2  # opened, not read again
    assert again.tokens.tolist() == dataset.tokens.tolist()


def test_a_changed_file_is_prepared_anew(path, tmp_path, tokenizers):
    prepare(path, tokenizers["word"], tmp_path / "data")
    path.write_text("the cat\n")
    assert len(prepare(path, tokenizers["word"], tmp_path / "data")) == 3


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_a_file_without_text_is_refused_and_leaves_nothing(tmp_path, tokenizers, content):
    path = tmp_path / "empty.txt"
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"empty\.txt holds no text"):
            prepare(path, tokenizers["subword"], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_joining_keeps_documents_apart_and_spares_who_reads_the_old_file(
    path, tmp_path, tokenizers
):
    tokenizer = tokenizers["word"]
    one = prepare(path, tokenizer, tmp_path / "data")
    joined = concatenate([one, one], tmp_path / "data")
    assert joined.tokens.tolist() == [*one.tokens.tolist()] * 2
    assert joined.starts.tolist() == [0, 4, 8, 12, 16]
    other = concatenate([one, one, one], tmp_path / "data")
    assert len(other) == 24
    assert joined.tokens.tolist() == [*one.tokens.tolist()] * 2  # still mapped, still whole
    assert concatenate([one], tmp_path / "data") is one
    written = (tmp_path / "data" / "joined.tokens").stat()
    opened = concatenate([one, one, one], tmp_path / "data", write=False)
    assert opened.tokens.tolist() == other.tokens.tolist()
    assert (tmp_path / "data" / "joined.tokens").stat().st_ino == written.st_ino

from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks import ngram_mixture
from benchmarks.kneser_ney import estimate, write_arpa
from models.language_model import LanguageModel
from models.networks import build_network, network_config
from models.tokenizers import train_tokenizer
from training.ngram import BOS, END, UNK, NGram
from training.perplexity import score_documents
from training.running_text import read_running_text

ORDER = 4
LINES = ["the cat sat on the mat", "the dog sat on the cat", "a cat", "the cat sat on a dog"] * 5


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "lines.txt"
    path.write_text("\n".join(LINES) + "\n")
    tokenizer = train_tokenizer("subword", LINES, vocab_size=280)
    return path, tokenizer, ngram_mixture.token_sentences(tokenizer, [path])


@pytest.fixture(scope="module")
def model(text):
    _, tokenizer, sentences = text
    bos = tokenizer.vocab_size + 1
    counts = ngram_mixture.occurrences(sentences, ORDER, bos=bos)
    return estimate(sentences, bos=bos, order=ORDER), counts


def read(grams, tokenizer, path):
    names = [*map(str, range(tokenizer.vocab_size)), UNK, BOS]
    names[tokenizer.eos_id] = END
    write_arpa(grams, names, path)
    return NGram(path)


def test_occurrences_are_those_counted_one_by_one(text, model):
    sentences = [tuple(ids.tolist()) for ids in text[2]]
    grams, counts = model
    texts = [(i,) for i in range(len(grams[0].word))]
    for n, (part, count) in enumerate(zip(grams, counts, strict=True), 1):
        if n > 1:
            pairs = zip(part.prefix.tolist(), part.word.tolist(), strict=True)
            texts = [(*texts[prefix], word) for prefix, word in pairs]
        expected = Counter(ids[i : i + n] for ids in sentences for i in range(len(ids) - n + 1))
        assert {t: c for t, c in zip(texts, count.tolist(), strict=True) if c} == expected


def check_distribution(ngram, ids):
    """Compare all words behind a line's ids, and the log-probabilities of each in turn."""
    begin = ngram.ids[BOS]
    words = [word for word in range(len(ngram.names)) if word != begin]
    lines = np.array([[*ids, word] for word in words])
    each = np.exp(ngram.log_probs(lines.ravel()).reshape(lines.shape)[:, -1])
    assert each.sum() == pytest.approx(1, abs=1e-4)
    found = ngram.next_words(ids)
    np.testing.assert_allclose(found[words], each, rtol=1e-6)
    assert found[begin] == 0


@pytest.mark.parametrize("threshold", [-1e9, 10.0, 20.0, 1e9])
def test_what_is_left_is_a_distribution(text, model, tmp_path, threshold):
    _, tokenizer, sentences = text
    pruned = ngram_mixture.prune(*model, threshold)
    ngram = read(pruned, tokenizer, tmp_path / "pruned.arpa")
    for sentence in sentences[:4]:
        for end in range(1, len(sentence)):
            check_distribution(ngram, sentence[:end].tolist())


def test_a_context_may_outlive_its_suffix(text, model, tmp_path):
    _, tokenizer, sentences = text
    grams, counts = model
    random = np.random.default_rng(0)
    drawn = [1000 * (random.random(len(count)) < 0.5) for count in counts]
    ngram = read(ngram_mixture.prune(grams, drawn, 0.0), tokenizer, tmp_path / "holes.arpa")
    holes = 0
    for sentence in sentences[:4]:
        for end in range(3, len(sentence)):
            ids = sentence[:end].tolist()
            holes += ngram._index(ids[-3:]) >= 0 > ngram._index(ids[-2:])
            check_distribution(ngram, ids)
    assert holes


def test_a_threshold_prunes_what_gains_least(text, model):
    grams, counts = model
    sizes = [
        [len(part.word) for part in ngram_mixture.prune(grams, counts, threshold)]
        for threshold in (-1e9, 10.0, 20.0, 1e9)
    ]
    assert sizes[0] == [len(part.word) for part in grams]
    assert sizes[3] == [len(grams[0].word), 0, 0, 0]
    assert sum(sizes[0]) > sum(sizes[1]) > sum(sizes[2]) > sum(sizes[3])


def test_nothing_pruned_changes_nothing(text, model, tmp_path):
    path, tokenizer, _ = text
    running = read_running_text(path, tokenizer, lines_alone=True)
    whole, same = (
        ngram_mixture.ngram_log_probs(read(grams, tokenizer, tmp_path / "g.arpa"), running)
        for grams in (model[0], ngram_mixture.prune(*model, -1e9))
    )
    np.testing.assert_allclose(same, whole, atol=1e-4)


def test_the_networks_log_probabilities_are_those_of_the_evaluation(text):
    path, tokenizer, _ = text
    sizes = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    torch.manual_seed(0)
    kind = {"kind": "gru", "embedding_size": 8, "hidden_size": 8, "num_layers": 1}
    network = build_network(network_config({**kind, **sizes})).eval()
    language_model = LanguageModel("gru", network, tokenizer, temperature=1.3)
    running = read_running_text(path, tokenizer, lines_alone=True)
    found = ngram_mixture.network_log_probs(language_model, running)
    lines = [
        np.concatenate([scores.log_probs for scores in score_documents(language_model, [line])])
        for line in running.documents
    ]
    np.testing.assert_allclose(found, np.concatenate(lines), rtol=1e-5)

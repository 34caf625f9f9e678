"""The estimator against the formulas of Chen & Goodman written out with dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks.kneser_ney import estimate, unknown_words, write_arpa, write_models
from models.tokenizers import train_tokenizer
from training.ngram import NGram
from training.ngram_evaluation import score_lines

EOS, WORDS, BOS = 0, 120, 120  # ids below BOS can be predicted


def corpus(seed=0, count=400):
    random = np.random.default_rng(seed)
    base = 1 / np.arange(1, WORDS + 1) ** 1.3
    table = random.dirichlet(6 * base / base.sum(), WORDS + 1)
    sentences = []
    for _ in range(count):
        ids = [BOS]
        while ids[-1] != EOS and len(ids) < 30:
            ids.append(int(random.choice(WORDS, p=table[ids[-1]])))
        sentences.append(np.array([*ids, *([] if ids[-1] == EOS else [EOS])]))
    return sentences


class Brute:
    """Modified Kneser-Ney, one probability at a time."""

    def __init__(self, sentences, order):
        raw = [Counter() for _ in range(order + 1)]
        left = defaultdict(set)
        for sentence in (s.tolist() for s in sentences):
            for n in range(1, order + 1):
                for i in range(len(sentence) - n + 1):
                    gram = tuple(sentence[i : i + n])
                    raw[n][gram] += 1
                    if i:
                        left[gram].add(sentence[i - 1])
        self.counts = [{} for _ in range(order + 1)]
        for n in range(1, order + 1):
            for gram, count in raw[n].items():
                whole = n == order or (gram[0] == BOS and n > 1)
                if gram != (BOS,):
                    self.counts[n][gram] = count if whole else len(left[gram])
        self.discounts = [None]
        for n in range(1, order + 1):
            t = Counter(self.counts[n].values())
            y = t[1] / (t[1] + 2 * t[2])
            found = [0] + [k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3)]
            self.discounts.append([min(max(d, 0), k) for k, d in enumerate(found)])

    def probability(self, history, word):
        n = len(history) + 1
        lower = self.probability(history[1:], word) if history else 1 / WORDS
        after = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == history}
        if not after:
            return lower
        discounts = self.discounts[n]
        total = sum(after.values())
        count = after.get(word, 0)
        own = max(0, count - discounts[min(count, 3)]) / total
        return own + sum(discounts[min(c, 3)] for c in after.values()) / total * lower


def query(grams, order):
    """Return p(word | history) by back-off, as an ARPA file is read."""
    texts, tables = [(i,) for i in range(WORDS + 1)], []
    for n, part in enumerate(grams):
        if n:
            texts = [(*texts[p], int(w)) for p, w in zip(part.prefix, part.word, strict=True)]
        tables.append(
            dict(zip(texts, zip(part.probability, part.back_off, strict=True), strict=True))
        )

    def probability(history, word):
        history = tuple(history)[-(order - 1) :]
        gram = (*history, word)
        if gram in tables[len(gram) - 1]:
            return tables[len(gram) - 1][gram][0]
        back_off = tables[len(history) - 1].get(history, (0, 1.0))[1]
        return back_off * probability(history[1:], word)

    return probability


@pytest.mark.parametrize("order", [2, 3, 5])
def test_every_probability_is_that_of_the_formulas_and_they_sum_to_one(order):
    sentences = corpus()
    found, wanted = query(estimate(sentences, bos=BOS, order=order), order), Brute(sentences, order)
    random = np.random.default_rng(1)
    for _ in range(25):
        length = int(random.integers(0, order))
        history = tuple(int(i) for i in random.integers(1, 12, length))
        if length and random.random() < 0.5:
            history = (BOS, *history[1:])
        probabilities = [found(history, word) for word in range(WORDS)]
        assert probabilities == pytest.approx(
            [wanted.probability(history, w) for w in range(WORDS)]
        )
        assert sum(probabilities) == pytest.approx(1, abs=1e-9)


def test_too_little_text_takes_the_fixed_discounts_and_still_sums_to_one():
    probability = query(estimate([np.array([BOS, 1, 2, EOS])], bos=BOS, order=2), 2)
    after = [probability((1,), word) for word in range(WORDS)]
    assert sum(after) == pytest.approx(1)
    assert after[2] == pytest.approx(0.5 + 0.5 * probability((), 2))  # 1 - 0.5 of its own


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return an ARPA file of a corpus, and the n-grams written there."""
    grams = estimate(corpus(), bos=BOS, order=3)
    path = tmp_path_factory.mktemp("ngram") / "small.arpa"
    write_arpa(grams, ["</s>", "<unk>", *(f"w{i}" for i in range(2, WORDS)), "<s>"], path)
    return path, grams


def test_the_file_is_read_back_with_the_same_probabilities(small):
    model, probability = NGram(small[0]), query(small[1], 3)
    lines = [s.tolist() for s in corpus(seed=3, count=40)]
    names = [[f"w{i}" for i in line[1:] if i > 1] for line in lines]
    scores = score_lines(model, names)
    for line, score in zip(names, scores.log_probs, strict=True):
        ids = [BOS, *(int(unit[1:]) for unit in line), EOS]
        wanted = [np.log(probability(ids[max(0, i - 2) : i], ids[i])) for i in range(1, len(ids))]
        assert score == pytest.approx(sum(wanted), abs=1e-4)
        context = model.line(line[:4])
        found = model.next_words(context)
        assert found.sum() == pytest.approx(1, abs=1e-4)
        for word in (EOS, *ids[1:]):
            name = "</s>" if word == EOS else f"w{word}"
            wanted = probability(ids[: len(context)][-2:], word)
            assert found[model.ids[name]] == pytest.approx(wanted, rel=1e-4)


def test_an_unknown_word_costs_its_mark_and_its_letters(tmp_path):
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(["tea", "milk", "sugar"], 5)) for _ in range(50)]
    lines[7:10] = ["tea ant", "milk bee", "cocoa"]  # once each: unknown
    write_models(lines, tmp_path / "3.arpa", order=3, vocabulary=100)
    model = NGram(tmp_path / "3.arpa")
    assert {"tea", "milk", "sugar"} == {*model.ids} - {"<s>", "</s>", "<unk>"}
    scores = score_lines(model, [["tea", "ant"], ["tea", "tnaq"], ["tea", "<unk>"], ["tea"]])
    assert scores.unknown == 3 - 1  # the mark itself is known
    whole, spelled = scores.log_probs, scores.spelling
    assert whole - spelled == pytest.approx([*[whole[2]] * 3, whole[3]])
    assert spelled[0] > spelled[1]
    assert spelled[2:].tolist() == [0, 0]
    following = model.spelling.next_words(model.spelling.line(["61"]))
    assert following.sum() == pytest.approx(1, abs=1e-4)
    write_models([*lines[:7], *lines[10:]], tmp_path / "3.arpa", order=3, vocabulary=100)
    assert score_lines(NGram(tmp_path / "3.arpa"), [["tea", "ant"]]).spelling.tolist() == [0]


def test_unknown_words_are_told_as_often_as_they_occur():
    tokenizer = train_tokenizer("word", ["the cat sat"] * 2, vocab_size=6)
    lines = ["the dog sat", "the cat", "the dog, the ant."]
    assert [*unknown_words(tokenizer, lines)] == ["dog", "dog", ",", "ant", "."]


def test_words_for_which_a_vocabulary_has_no_room_are_spelled_too(tmp_path):
    lines = ["tea tea tea milk milk sugar sugar"] * 9
    write_models(lines, tmp_path / "2.arpa", order=2, vocabulary=4)
    model = NGram(tmp_path / "2.arpa")
    assert {*model.ids} == {"<s>", "</s>", "<unk>", "tea", "milk"}
    spelled = score_lines(model, [["sugar"], ["raugs"]]).spelling
    assert 0 > spelled[0] > spelled[1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not begin with"),
        ("\\data\\\n", "counts no n-grams"),
        ("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\ta\t0\n\n\\end\\\n", "other than 2 1-grams"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\nx\ta\t0\n\n\\end\\\n", "could not convert"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\ta\t0\n\n\\end\\\n", "lacks </s>, <s>, <unk>"),
    ],
)
def test_what_is_no_arpa_file_is_refused(tmp_path, text, problem):
    (tmp_path / "bad.arpa").write_text(text)
    with pytest.raises(ValueError, match=problem) as failure:
        NGram(tmp_path / "bad.arpa")
    assert "bad.arpa" in str(failure.value)


def test_kenlm_reads_the_same_probabilities(small):
    kenlm = pytest.importorskip("kenlm", reason="KenLM takes minutes to compile: not locked")
    model, probability = kenlm.Model(str(small[0])), query(small[1], 3)
    scores = [s for s, _, _ in model.full_scores("w3 w2 w5 w3", bos=True, eos=True)]
    ids = [BOS, 3, 2, 5, 3, EOS]
    wanted = [np.log10(probability(ids[max(0, i - 2) : i], ids[i])) for i in range(1, len(ids))]
    assert scores == pytest.approx(wanted, abs=1e-4)

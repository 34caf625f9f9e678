"""The estimator against the formulas of Chen & Goodman written out with dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks.kneser_ney import estimate, write_arpa

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


def test_too_little_text_has_no_discounts():
    with pytest.raises(ValueError, match="too little text"):
        estimate([np.array([BOS, 1, EOS])], bos=BOS, order=2)


def test_kenlm_reads_the_same_probabilities(tmp_path):
    kenlm = pytest.importorskip("kenlm")
    grams = estimate(corpus(), bos=BOS, order=3)
    path = tmp_path / "small.arpa"
    names = ["</s>", "<unk>", *(f"w{i}" for i in range(2, WORDS)), "<s>"]
    write_arpa(grams, names, path)
    model, probability = kenlm.Model(str(path)), query(grams, 3)
    scores = [s for s, _, _ in model.full_scores("w3 w2 w5 w3", bos=True, eos=True)]
    ids = [BOS, 3, 2, 5, 3, EOS]
    wanted = [np.log10(probability(ids[max(0, i - 2) : i], ids[i])) for i in range(1, len(ids))]
    assert scores == pytest.approx(wanted, abs=1e-4)

"""Equally probable words: none is lost, none comes twice."""

import numpy as np
import pytest

from models.forward import run
from models.next_word import next_word
from models.tokenizers import train_tokenizer
from tests.models.helpers import told_model


@pytest.mark.parametrize("levels", [1, 2, 7])
def test_equals_are_all_listed_once(levels):
    words = [f"w{i}" for i in range(600)]
    tokenizer = train_tokenizer("word", [" ".join(words)], vocab_size=1000)
    row = np.random.default_rng(0).integers(levels, size=tokenizer.vocab_size).astype(float)
    model = told_model(tokenizer, lambda history: row)
    for top_k in (None, 1000, 599, 300, 257):
        answer = run(next_word(model, "", top_k=top_k), model)
        listed = [p.word for p in answer.predictions]
        assert len({*listed}) == len(listed) == min(600, top_k or 600)
        probabilities = [p.probability for p in answer.predictions]
        assert probabilities == sorted(probabilities, reverse=True)

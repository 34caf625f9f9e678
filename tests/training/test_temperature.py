"""The fitted temperature is the best of a fine grid, and the files count alike."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.models.helpers import told_model
from tests.training.grammar import WORDS, write
from training.running_text import read_running_text
from training.temperature import fit_temperature


def claims(model, path):
    """Logits and answers wherever a word begins, one document at a time."""
    ends = [*model.tokenizer.is_word_end, *[True] * model.tokenizer.num_ids]
    ends[model.tokenizer.eos_id] = True
    for document in read_running_text(path, model.tokenizer).documents:
        inputs = [model.tokenizer.bos_id, *document[:-1].tolist()]
        logits = model.network(torch.tensor([inputs]))[0][0]
        for before, row, answer in zip(inputs, logits, document.tolist(), strict=True):
            if ends[before]:
                yield row.double().numpy(), answer


def loss(made, temperature):
    total = 0.0
    for logits, answer in made:
        weights = np.exp((logits - logits.max()) / temperature)
        p = 1 / weights.sum()
        total -= np.log(p if int(np.argmax(logits)) == answer else 1 - p)
    return total / len(made)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_no_temperature_of_a_grid_is_better(tokenizers, grammar, tmp_path, sharpness):
    """The grammar itself, its logarithms multiplied: the temperature takes that back."""
    tokenizer = tokenizers["word"]
    ids = [tokenizer.encode(word).token_ids[0] for word in WORDS]
    log_table = np.log(np.maximum(grammar.table, 1e-9))

    def logits(history):
        row = np.full(tokenizer.vocab_size, -60.0)
        last = ids.index(history[-1]) if history[-1] in ids else -1
        row[[*ids, tokenizer.eos_id]] = sharpness * log_table[last]
        return row

    model = told_model(tokenizer, logits)
    paths = [
        write(tmp_path / f"{count}.txt", grammar.lines(count, seed=9)) for count in (200, 40)
    ]  # the small one weighs as much
    fit = fit_temperature(model, paths, tokens=10**9)
    made = [[*claims(model, path)] for path in paths]
    grid = fit.temperature * np.linspace(0.9, 1.1, 41)
    losses = [np.mean([loss(part, t) for part in made]) for t in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(fit.temperature, rel=0.006)
    assert fit.temperature == pytest.approx(sharpness, rel=0.25)
    tempered = dataclasses.replace(model, temperature=fit.temperature)
    again = fit_temperature(tempered, paths, tokens=10**9)
    assert again.temperature == pytest.approx(fit.temperature, rel=1e-4)
    assert again.before == pytest.approx(fit.after, rel=1e-6)

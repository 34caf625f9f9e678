import math

import numpy as np
import pytest
import torch

from models.language_model import LanguageModel
from tests.training.conftest import SIZES, random_model
from training.corpora import read_documents
from training.evaluate import evaluate
from training.perplexity import score_documents
from training.running_text import read_running_text

DIALOGUES = """The cat sat on the mat.
there, a dog ran

a cat
the dog? the cat! the mat
don't

the milk ran on and on and on and on there on the mat on the mat on the mat on the mat
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "talk").mkdir()
    path = tmp_path / "talk" / "valid.txt"
    path.write_text(DIALOGUES)
    return path


def _naive(model: LanguageModel, documents: list[list[int]]) -> tuple[float, list[float]]:
    """Token by token, one document after the other: nats, and the top probabilities."""
    nats, tops = 0.0, []
    for document in documents:
        state, before = None, model.tokenizer.bos_id
        for token in document:
            logits, state = model.network(torch.tensor([[before]]), state)
            log_probs = torch.log_softmax(logits[0, 0].double() / model.temperature, -1)
            nats -= float(log_probs[token])
            tops.append(float(log_probs.max().exp()))
            before = token
    return nats, tops


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_a_whole_file_equals_a_single_stream(monkeypatch, path, tokenizers, kind, tokenizer):
    monkeypatch.setattr("training.perplexity._SEGMENT_TOKENS", 11)
    model = random_model(kind, tokenizers[tokenizer])
    eos, encode = model.tokenizer.eos_id, model.tokenizer.encode_lines
    if tokenizer == "wikitext":  # every line as it stands, one state for the file
        lines = path.read_text().split("\n")[:-1]
        documents = [[i for ids in encode(lines) for i in (*ids, eos)]]
    else:
        documents = [
            [i for ids in encode(document) for i in (*ids, eos)]
            for document in read_documents(path)
        ]
    nats, tops = _naive(model, documents)
    tokens = sum(map(len, documents))

    for streams in (1, 2, 64):
        text = read_running_text(path, model.tokenizer)
        scores = list(score_documents(model, text.documents, streams=streams))
        log_probs = np.concatenate([s.log_probs for s in scores])
        assert len(log_probs) == tokens
        assert -log_probs.sum() == pytest.approx(nats, rel=1e-4)
        assert np.sort(np.concatenate([s.top for s in scores])) == pytest.approx(
            np.sort(tops), abs=1e-4
        )
    metrics = evaluate(model, path, sample=0).metrics
    words = sum(len(line.split()) for line in DIALOGUES.splitlines())
    characters = sum(
        len(line) + 1 for line in DIALOGUES.splitlines() if line or tokenizer == "wikitext"
    )
    assert math.log(metrics["perplexity_per_token"].value) == pytest.approx(nats / tokens, rel=1e-4)
    assert math.log(metrics["perplexity_per_word"].value) == pytest.approx(nats / words, rel=1e-4)
    assert metrics["bits_per_character"].value == pytest.approx(
        nats / math.log(2) / characters, rel=1e-4
    )


def test_temperature_counts(path, tokenizers):
    model = random_model("gru", tokenizers["word"])
    warm = LanguageModel("warm", model.network, model.tokenizer, temperature=1.7)
    text = read_running_text(path, model.tokenizer)
    nats = -sum(float(s.log_probs.sum()) for s in score_documents(warm, text.documents))
    assert nats == pytest.approx(_naive(warm, [d.tolist() for d in text.documents])[0], rel=1e-4)


@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large(path, tokenizers, tokenizer):
    model = random_model("lstm", tokenizers[tokenizer])
    for parameter in model.network.parameters():
        parameter.zero_()
    metrics = evaluate(model, path, sample=0).metrics
    assert metrics["perplexity_per_token"].value == pytest.approx(model.tokenizer.vocab_size)


def test_counts_of_a_text(path, tokenizers):
    text = read_running_text(path, tokenizers["word"])
    assert (text.lines, len(text.documents)) == (6, 3)
    assert text.words == len(DIALOGUES.split())
    assert text.unknown == 9  # The, milk, thrice and, a mark of each kind: . , ? !

import numpy as np
import pytest

from tests.training.conftest import random_model
from training.ensemble import ensemble_log_probs, ensemble_metrics
from training.perplexity import score_documents
from training.running_text import read_running_text


def test_it_is_the_mean_of_probabilities_token_by_token(tokenizers, corpus):
    tokenizer = tokenizers["word"]
    models = [random_model(kind, tokenizer, seed=i) for i, kind in enumerate(("lstm", "gru"))]
    models.append(random_model("transformer", tokenizer, seed=7))
    text = read_running_text(corpus[1], tokenizer)
    document = text.documents[0]
    means = []
    for model in models:
        logits, _ = model.network(torch_ids(tokenizer.bos_id, document))
        means.append(logits[0].softmax(-1).double().numpy())
    expected = np.log(np.mean(means, axis=0)[np.arange(len(document)), document])
    np.testing.assert_allclose(ensemble_log_probs(models, [document]), expected, atol=1e-5)
    metric = ensemble_metrics(models, corpus[1])["perplexity_per_token"]
    each = [
        np.concatenate([s.log_probs for s in score_documents(model, text.documents)])
        for model in models
    ]
    # Jensen: the mean costs no more than the mean cost, and its parts no more than log 3 apart.
    assert metric.value < np.exp(-np.mean(each))
    assert metric.value > np.exp(-np.max(each, axis=0).mean())
    assert metric.count == len(text.tokens)


def torch_ids(bos_id, document):
    import torch

    return torch.tensor([[bos_id, *document[:-1].tolist()]])


def test_one_model_alone_is_itself(tokenizers, corpus):
    model = random_model("lstm", tokenizers["word"])
    documents = read_running_text(corpus[1], model.tokenizer).documents
    alone = np.concatenate([s.log_probs for s in score_documents(model, documents)])
    np.testing.assert_allclose(ensemble_log_probs([model, model], documents), alone)


def test_models_of_two_vocabularies_are_refused(tokenizers, corpus):
    models = [random_model("lstm", tokenizers[kind]) for kind in ("word", "subword")]
    with pytest.raises(ValueError, match="another vocabulary"):
        ensemble_metrics(models, corpus[1])

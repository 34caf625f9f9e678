"""Embedding dropout: whole words are dropped wherever they stand (Gal & Ghahramani 2016, sec. 4.2).

The output layer, where it shares the embedding's matrix, keeps all words (Merity et al. 2018).
"""

from torch import Tensor, nn
from torch.nn import functional as F


def embed(embedding: nn.Embedding, token_ids: Tensor, rate: float) -> Tensor:
    """Return the embedded tokens (B, T, E), a share ``rate`` of the vocabulary as zeros.

    What is masked is what was looked up, not the matrix, which is some thousand times larger.

    Args:
        embedding: Of any number of ids.
        token_ids: Shape (B, T), int64.
        rate: At least 0 and below 1; the words that stay are scaled up by 1 / (1 - rate).
    """
    embedded: Tensor = embedding(token_ids)
    if not rate:
        return embedded
    mask = F.dropout(embedded.new_ones(embedding.num_embeddings, 1), rate)  # (ids, 1)
    return embedded * mask[token_ids]

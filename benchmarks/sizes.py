"""The sizes that both sides of a measurement have. Imports nothing, for peers read it as well."""

VOCABULARY = 33_278  # ids that can be predicted, as WikiText-2 has words
SPECIAL = ("<unk>", "<s>", "</s>")  # of a peer's vocabulary; ids 0, 1, 2
WORDS = VOCABULARY - len(SPECIAL)  # words that both sides know

# SwiGLU's three matrices of 704 have the weights of GELU's two of 1024 (541k against 524k a block):
# ours has 2% more of them in a block.
TRANSFORMER = {
    "kind": "transformer",
    "vocab_size": VOCABULARY,
    "num_ids": VOCABULARY + 1,
    "embedding_size": 256,
    "num_layers": 6,
    "num_heads": 4,
    "feedforward_size": 704,
    "context_length": 256,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_positions": 256,
    "n_embd": 256,
    "n_layer": 6,
    "n_head": 4,
    "n_inner": 1024,
}
LSTM_WIDTH, LSTM_LAYERS = 512, 2
LSTM = {
    "kind": "lstm",
    "vocab_size": VOCABULARY,
    "num_ids": VOCABULARY + 1,
    "embedding_size": LSTM_WIDTH,
    "hidden_size": LSTM_WIDTH,
    "num_layers": LSTM_LAYERS,
}

CACHED = 64  # positions read before a step, on average over the steps of one measurement
SENTENCES = 32  # of a call that scores
GENERATED = 64  # tokens of a continuation
SEQUENCES = 32  # continuations side by side

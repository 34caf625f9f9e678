from pathlib import Path

import pytest
import torch
from rich.console import Console

from models.language_model import LanguageModel
from models.networks import build_network, network_config
from models.tokenizers import Tokenizer, train_tokenizer
from tests.training.grammar import Grammar, text, write
from training.recipe import Recipe
from training.train import Corpus, train

SIZES = {
    "rnn": {"hidden_size": 12},
    "gru": {"hidden_size": 12},
    "lstm": {"hidden_size": 12},
    "transformer": {"num_heads": 2, "feedforward_size": 16, "context_length": 6},
}


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    return Grammar.random(3)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, grammar) -> tuple[Path, Path]:
    """A training and a validation file of the grammar."""
    folder = tmp_path_factory.mktemp("corpus") / "notes"
    train = write(folder / "train.txt", grammar.lines(1500, seed=1))
    return train, write(folder / "valid.txt", grammar.lines(300, seed=2))


def tiny_recipe(kind: str = "lstm", *, dropout: float = 0.3, **training) -> Recipe:
    network = {"kind": kind, "embedding_size": 8, "num_layers": 2, "dropout": dropout}
    defaults = {
        "epochs": 2,
        "batch_size": 8,
        "segment_length": 16,
        "state_reset": 0.1,
        "validate_every": 20,
        "save_every": 10,
        "precision": "float32",
    }
    return Recipe.from_values(
        {
            "tokenizer": {"kind": "word", "vocab_size": 40},
            "network": network | SIZES[kind],
            "optimizer": {"learning_rate": 5e-3, "warmup_steps": 10, "average_decay": 0.95},
            "training": defaults | training,
        }
    )


def recipe_toml(recipe: Recipe) -> str:
    """Return a recipe as people write it down."""
    return "\n".join(
        f"[{table}]\n" + "\n".join(f"{name} = {_toml(value)}" for name, value in settings.items())
        for table, settings in recipe.to_values().items()
    )


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, corpus) -> tuple[Path, Path]:
    """A trained checkpoint whose words have several pieces, and its run's folder."""
    folder = tmp_path_factory.mktemp("trained")
    values = tiny_recipe("gru", dropout=0.0, epochs=1).to_values()
    values["tokenizer"] = {"kind": "subword", "vocab_size": 270}
    values["network"] |= {"embedding_size": 32, "hidden_size": 32}
    values["optimizer"] |= {"learning_rate": 0.02}
    files = Corpus([corpus[0]], [corpus[1]])
    out, run = folder / "small", folder / "run"
    recipe = Recipe.from_values(values)
    train(recipe, files, out=out, run=run, console=Console(quiet=True), command="nextword train")
    return out, run


def random_model(kind: str, tokenizer: Tokenizer, *, seed: int = 0) -> LanguageModel:
    """A network of random weights, large enough that its answers are far from uniform."""
    torch.manual_seed(seed)
    ids = {"vocab_size": tokenizer.vocab_size, "num_ids": tokenizer.num_ids}
    network = build_network(
        network_config({"kind": kind, "embedding_size": 8, "num_layers": 2} | SIZES[kind] | ids)
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return LanguageModel("random", network.eval().requires_grad_(False), tokenizer)


@pytest.fixture(scope="session")
def tokenizers(grammar) -> dict[str, Tokenizer]:
    """One of each kind, learnt from the grammar; ``milk`` is too rare for whole words to know."""
    lines = text(grammar.lines(400, seed=5)).replace("milk", "").splitlines()
    sizes = {"subword": 280, "word": 40, "wikitext": 40}
    return {kind: train_tokenizer(kind, lines, vocab_size=size) for kind, size in sizes.items()}

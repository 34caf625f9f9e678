"""Tiny checkpoints with random weights, and the service on them."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from app.application import create_app
from app.settings import Settings
from models.backends.choose import choose_backend
from models.checkpoint import load_checkpoint, save_checkpoint
from models.language_model import LanguageModel
from models.networks import build_network, network_config
from models.tokenizers import train_tokenizer

SUBWORD, WORD = "tiny-subword", "tiny-word"


def sentences(count: int = 400) -> list[str]:
    """Sentences of a small random grammar."""
    rng = random.Random(7)
    people = ["I", "you", "we", "the doctor", "my sister", "our neighbour"]
    verbs = ["study", "don't like", "would book", "have seen", "could repair", "sold"]
    things = ["machine learning", "a hotel room", "the slow computer", "two red houses", "coffee"]
    ends = [".", "!", "?", ", I think."]
    return [
        f"{rng.choice(people)} {rng.choice(verbs)} {rng.choice(things)}{rng.choice(ends)}"
        for _ in range(count)
    ]


def make_checkpoint(folder: Path, *, kind: str, tokenizer_kind: str, vocab_size: int) -> None:
    """Write a checkpoint whose distributions are far from uniform."""
    tokenizer = train_tokenizer(tokenizer_kind, sentences(), vocab_size=vocab_size)
    sizes = (
        {"num_heads": 2, "feedforward_size": 32, "context_length": 12}
        if kind == "transformer"
        else {"hidden_size": 16}
    )
    config = {
        "kind": kind,
        "vocab_size": tokenizer.vocab_size,
        "num_ids": tokenizer.num_ids,
        "embedding_size": 16,
        "num_layers": 1,
        **sizes,
    }
    torch.manual_seed(1)
    network = build_network(network_config(config))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.8)
    details = {"corpus": {"train": ["a small grammar"]}, "metrics": {"perplexity": 12.5}}
    save_checkpoint(folder, network, tokenizer, details=details)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two checkpoints; nothing else in it can be loaded."""
    folder = tmp_path_factory.mktemp("checkpoints")
    make_checkpoint(folder / SUBWORD, kind="lstm", tokenizer_kind="subword", vocab_size=320)
    make_checkpoint(folder / WORD, kind="transformer", tokenizer_kind="word", vocab_size=60)
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("not a checkpoint")
    return folder


@pytest.fixture(scope="session")
def models(models_dir: Path) -> dict[str, LanguageModel]:
    """The same models, computed in the same way, without the service."""
    return {
        name: choose_backend(load_checkpoint(models_dir / name), "auto", threads=1)
        for name in (SUBWORD, WORD)
    }


@pytest.fixture(scope="session")
def settings(models_dir: Path) -> Settings:
    """Small bounds, so that a test can exceed each of them."""
    return Settings(models_dir=models_dir, max_body_bytes=100_000, max_text_characters=2000)


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    """The service, ready."""
    with TestClient(create_app(settings)) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: TestClient) -> None:
    """Return when /ready answers 200."""
    for _ in range(500):
        if client.get("/ready").status_code == 200:
            return
        time.sleep(0.02)
    pytest.fail(client.get("/ready").text)

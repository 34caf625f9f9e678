import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import choices, choices_variants
from models.networks import build_network, network_config, transformer
from models.tokenizers import train_tokenizer
from training.dataset import Dataset

VARIANTS = {**choices.SEEDS, **choices.CHANGED}
SIZES = {"vocab_size": 50, "num_ids": 51}


def unmarked(line):
    line = re.sub(r"⇪([^\W\d_]+)", lambda match: match[1].upper(), line)
    return re.sub(r"⇧(\w)", lambda match: match[1].upper(), line)


def build(variant, monkeypatch):
    monkeypatch.setattr(transformer, "Block", variant.block)
    recipe = variant.load()
    return recipe, build_network(network_config({**recipe.network, **SIZES}))


def test_capitals_are_marked_before_the_small_letters():
    marked = choices.mark_capitals("I don't. (NASA) McAfee, He's eBay 3D Ünal")
    assert marked == "⇧i don't. (⇪nasa) McAfee, ⇧he's eBay 3⇧d ⇧ünal"


@given(st.text(st.sampled_from("aBcD Éß'(.1iIİŉ")))
def test_marked_capitals_can_be_restored(line):
    assert unmarked(choices.mark_capitals(line)) == line


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_has_about_as_many_weights_between_the_layers(name, monkeypatch):
    variant = VARIANTS[name]
    unchanged = next(seed for seed in choices.SEEDS.values() if seed.group == variant.group)
    body = []
    for one in (variant, unchanged):
        _, network = build(one, monkeypatch)
        shared = network.embedding.weight.numel()
        body.append(sum(p.numel() for p in network.parameters()) - shared)
    assert body[0] == pytest.approx(body[1], rel=0.03)


def test_multiplications_are_those_of_the_products(monkeypatch):
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("Transformer, seed 1", "squared ReLU", "queries and keys normalised"):
        recipe, network = build(VARIANTS[name], monkeypatch)
        length = recipe.training.segment_length
        past = network.context_length - 1
        _, state = network(torch.zeros(2, past, dtype=torch.int64))
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(2, length, dtype=torch.int64), state)
        counted = counter.get_total_flops() / 2 / 2 / length
        assert choices.multiplications(network, recipe, None) == pytest.approx(counted)


def test_multiplications_of_an_lstm(monkeypatch):
    recipe, network = build(VARIANTS["LSTM, seed 1"], monkeypatch)
    gates = 4 * 256 * (160 + 256) + 4 * 256 * (256 + 256)
    assert choices.multiplications(network, recipe, None) == gates + 256 * 160 + 160 * 50


def test_multiplications_of_a_sampled_softmax(monkeypatch):
    monkeypatch.setitem(SIZES, "vocab_size", 9000)
    monkeypatch.setitem(SIZES, "num_ids", 9001)
    recipe, network = build(VARIANTS["sampled softmax"], monkeypatch)
    plain, _ = build(VARIANTS["Transformer, seed 1"], monkeypatch)
    tokens = np.random.default_rng(0).permutation(9000).repeat(2).astype(np.uint16)
    dataset = Dataset(tokens, np.array([0, len(tokens)]), bos_id=9000, eos_id=0)
    # Of 9,000 words, each as frequent: 256 always, some 1,050 of 2,048 positions that are words of
    # their own, and some 730 drawn ones that are neither, each once.
    positions = 32 * (1 + 63 / 2)
    own = 9000 * (1 - (1 - 1 / 9000) ** positions)
    drawn = 8744 * (1 - (1 - 1 / 8744) ** 768)
    words = 9000 * (1 - (1 - 256 / 9000) * (1 - own / 9000) * (1 - drawn / 8744))
    found = choices.candidates(network, recipe, dataset)
    assert found == pytest.approx(words, rel=0.02)
    saved = choices.multiplications(network, plain, None) - choices.multiplications(
        network, recipe, dataset
    )
    assert saved == pytest.approx(0.9 * (9000 - found) * 160)


def test_normalised_heads_have_a_mean_square_of_one(monkeypatch):
    _, network = build(VARIANTS["queries and keys normalised"], monkeypatch)
    x = torch.randn(2, 3, 160)
    qk, v = network.blocks[0].heads(x)
    plain = transformer.Block.heads(network.blocks[0], x)
    assert qk.shape == plain[0].shape
    torch.testing.assert_close(qk.square().mean(-1), torch.ones(2, 2, 5, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(v, plain[1])


def test_a_spelled_word_costs_what_its_bytes_do(tmp_path):
    train, valid = tmp_path / "train.txt", tmp_path / "valid.txt"
    train.write_text("the cat sat\nthe cat sat\nthe dag sot\n")
    valid.write_text("the dog sat\nthe cat dot\n")
    tokenizer = train_tokenizer("word", ["the cat sat"] * 2, vocab_size=6)
    nats = choices.spelling_nats(tokenizer, [train], valid, tmp_path)
    speller = choices.NGram(tmp_path / "spelling.arpa")
    by_hand = 0.0
    for word in (b"dog", b"dot"):
        ids = np.array([258, *word, 256])
        by_hand -= math.fsum(speller.log_probs(ids)[1:])
    assert nats == pytest.approx(by_hand)
    assert nats > 0
    (known := tmp_path / "known.txt").write_text("the cat\n")
    assert choices.spelling_nats(tokenizer, [train], known, tmp_path) == 0


@pytest.fixture
def corpus(tmp_path):
    for source in choices.SOURCES:
        (tmp_path / source).mkdir()
        for split, lines in (("train", 4000), ("valid", 20)):
            words = np.random.default_rng(lines).integers(0, 9, (lines, 6))
            text = "\n\n".join(" ".join(f"Word{w}" for w in line) for line in words.tolist())
            (tmp_path / source / f"{split}.txt").write_text(text + "\n")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["squared ReLU", "32,768 whole words", "capitals as marks", "often, sampled softmax"]
)
def test_a_run_leaves_a_result(name, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(transformer, "Block", transformer.Block)  # `run` changes it
    monkeypatch.setattr(choices, "MULTIPLICATIONS", 5e10)
    settings = (
        *choices_variants._SETTINGS,
        "optimizer.warmup_steps=2",
        "optimizer.average_decay=0.5",
    )
    monkeypatch.setattr(choices_variants, "_SETTINGS", settings)
    monkeypatch.setattr(choices, "_VALID_PARTS", {"dialogue": 2})
    threads = torch.get_num_threads()
    try:
        choices.run(name, corpus)
    finally:
        torch.set_num_threads(threads)
    (result,) = choices.results(choices.CHANGED).values()
    assert result.tokens % (32 * 64) == 0
    words = 9
    assert all(words < found < 1000 for found in result.perplexities.values())
    written = (tmp_path / "runs" / choices._folder(name).name / "dialogue/valid.txt").read_text()
    assert written.count("\n\n") == 10
    learnt = (tmp_path / "runs" / choices._folder(name).name / "sentences/train.txt").read_text()
    assert learnt.count("\n\n") == 4000 // VARIANTS[name].every


def test_an_error_is_raised_at_once_and_cancels_what_waits(tmp_path, monkeypatch):
    begun, release = [], threading.Event()

    def run(name, corpus):
        begun.append(name)
        if name == "bad":
            raise ValueError("no text")
        release.wait(10)

    monkeypatch.setattr(choices, "run", run)
    monkeypatch.setattr(
        choices, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(count)
    )
    with pytest.raises(ValueError, match="no text"):
        list(choices.run_all(["long", "bad", *"abcdefgh"], tmp_path, 2))
    assert not release.is_set()
    release.set()
    assert len(begun) < 5


def test_the_table_and_the_picture_tell_the_differences(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "FOLDER", tmp_path)
    for name, perplexities in (
        ("LSTM, seed 1", (100, 200, 300)),
        ("LSTM, seed 2", (121, 200, 300)),
        ("3 layers", (220, 200, 300)),
    ):
        named = dict(zip(choices.SOURCES, perplexities, strict=True))
        result = choices.Result(2_300_000, 5_000_000, 0.5, 90.0, named)
        choices._folder(name).mkdir()
        (choices._folder(name) / "result.json").write_text(json.dumps(asdict(result)))
    change = 2 ** (1 / 3) - 1
    assert choices.table().splitlines()[2:] == [
        "| LSTM, seed 1 | 2.3 | 5.0 | 0.50 | 1.5 | 100 | 200 | 300 | -3.1% |",
        "| LSTM, seed 2 | 2.3 | 5.0 | 0.50 | 1.5 | 121 | 200 | 300 | +3.2% |",
        f"| 3 layers | 2.3 | 5.0 | 0.50 | 1.5 | 220 | 200 | 300 | {change:+.1%} |",
    ]
    choices.draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")

import json

import pytest
from rich.console import Console

from models.checkpoint import load_checkpoint
from tests.training.conftest import random_model, tiny_recipe
from training.card import card_text, format_metric
from training.evaluate import evaluate
from training.metrics import definition_of_all
from training.report import write_report
from training.train import Corpus, train


@pytest.fixture
def folder(tmp_path, checkpoint):
    folder = tmp_path / "small"
    folder.mkdir()
    for file in checkpoint[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_the_card_says_what_the_run_and_the_evaluation_noted(folder, checkpoint, corpus):
    model = load_checkpoint(folder)
    weights = (folder / "model.safetensors").read_bytes()
    evaluations = [evaluate(model, path, sample=40) for path in corpus]
    write_report(folder, evaluations, run=checkpoint[1])

    card = (folder / "README.md").read_text()
    for evaluation in evaluations:
        assert f"`{evaluation.data}`" in card
        for name, metric in evaluation.metrics.items():
            assert f"| {format_metric(name, metric.to_values())} |" in card
            assert metric.definition in card
    assert model.checksum in card
    assert f"{model.num_parameters:,} parameters" in card
    assert "```sh\nnextword train\n```" in card
    assert "| `notes/train` | train | your own text | your own |" in card
    assert 'kind = "subword"' in card
    assert "![Loss over the steps](loss.png)" in card
    assert "![Reliability diagrams](reliability.png)" in card
    for picture in ("loss.png", "reliability.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    assert "names of their folders" not in card
    again = load_checkpoint(folder)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert again.checksum == model.checksum
    assert [e["data"] for e in again.details["metrics"]] == ["notes/train", "notes/valid"]
    stored = again.details["metrics"][1]["metrics"]["perplexity_per_word"]["value"]
    assert stored == evaluations[1].metrics["perplexity_per_word"].value
    assert again.details["recipe"] == model.details["recipe"]
    assert not list(folder.glob("*.part"))


def test_known_corpora_carry_their_licences(tmp_path, corpus):
    files = []
    for name in ("dialogue", "sentences", "wikitext-2"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "train.txt")
        files[-1].write_text(corpus[1].read_text())
    recipe = tiny_recipe(epochs=0.1, repeats={"sentences": 2, "others": 3})
    trainer = train(
        recipe,
        Corpus(files, [corpus[1]]),
        out=tmp_path / "out",
        run=tmp_path / "run",
        console=Console(quiet=True),
    )
    model = load_checkpoint(tmp_path / "out")
    tokens = model.details["corpus"]["tokens"]
    assert 3 * len(trainer.dataset) == 4 * tokens  # an epoch reads one of the three files twice
    card = card_text(model)
    assert 'repeats = {"sentences" = 2, "others" = 3}' in card
    assert f"{tokens:,} training tokens" in card
    for licence in ("CC BY-SA 4.0", "CC BY 2.0 FR", "CC BY-SA 3.0"):
        assert card.count(licence) == 1
    assert "told by the names of their folders" in card


def test_a_file_of_the_run_and_of_its_base_is_named_once(folder):
    model = load_checkpoint(folder)
    model.details["training"]["began_with"] = {
        "name": "base",
        "weights": "0" * 64,
        "core_hours": None,
        "train": ["old/train", "notes/train"],
    }
    rows = [line.split(" | ") for line in card_text(model).splitlines() if "/train` |" in line]
    assert [row[:2] for row in rows] == [
        ["| `old/train`", "train, before"],
        ["| `notes/train`", "train, also before"],
    ]


@pytest.mark.parametrize("kind", ["lstm", "transformer", "rnn"])
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
def test_a_model_of_unknown_origin_has_a_card_too(tokenizers, kind, tokenizer):
    card = card_text(random_model(kind, tokenizers[tokenizer]))
    assert "## Limits" in card
    assert "## Metrics" not in card


@pytest.mark.parametrize(
    ("name", "metric", "text"),
    [
        ("perplexity_per_word", {"value": 12345.678, "interval": None}, "12,345.68"),
        ("recall_at_1", {"value": 0.25, "interval": [0.2, 0.31]}, "25.0% ± 5.5"),
        ("mean_reciprocal_rank", {"value": 0.3333, "interval": [0.3, 0.36]}, "0.333 ± 0.030"),
        ("recall_at_3", {"value": None, "interval": None}, "–"),
    ],
)
def test_figures_are_written_with_the_digits_they_deserve(name, metric, text):
    assert format_metric(name, metric) == text


def test_what_differs_between_files_is_told_of_each(folder):
    model = load_checkpoint(folder)
    shares = {"a/valid": "52.8%", "b/valid": "48.7%", "c/valid": "52.8%"}
    told = "share of lines: by frequency alone, {}; sampled lines"
    model.details["metrics"] = [
        {
            "data": data,
            "text": dict.fromkeys(("read", "lines", "words", "characters", "tokens", "unknown"), 0),
            "metrics": {
                "word_choice_accuracy": {"value": 0.9, "definition": told.format(share)},
                "perplexity_per_word": {"value": 9.0, "definition": "exp(nats / words)"},
            },
        }
        for data, share in shares.items()
    ]
    lines = card_text(model).splitlines()
    each = told.format("52.8% (`a/valid`, `c/valid`), 48.7% (`b/valid`)")
    assert f"- **word told from one as frequent**: {each}." in lines
    assert "- **perplexity per word**: exp(nats / words)." in lines


@pytest.mark.parametrize(
    ("definitions", "told"),
    [
        (["mean; 9 lines", "mean; 10 lines"], "mean; 9 (`0`), 10 (`1`) lines"),
        (["mean; 1,009 lines", "mean; 1,009 lines"], "mean; 1,009 lines"),
        (["a", "b"], "a (`0`), b (`1`)"),
        (["share of one", "share of all", "share of one"], "share of one (`0`, `2`), all (`1`)"),
    ],
)
def test_one_definition_is_made_of_those_of_all_files(definitions, told):
    named = [(str(i), definition) for i, definition in enumerate(definitions)]
    assert definition_of_all(named) == told


def test_metrics_survive_json(folder, corpus):
    evaluation = evaluate(load_checkpoint(folder), corpus[1], sample=20)
    values = evaluation.to_values()
    assert json.loads(json.dumps(values)) == json.loads(json.dumps(values, allow_nan=False))
    assert values["sample"] == {"positions": 20, "seed": 0, "unproven": 0}

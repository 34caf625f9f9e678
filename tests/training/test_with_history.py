"""What a history is worth, and the fit of how much it counts."""

import math

import pytest
import torch
import typer
from typer.testing import CliRunner

from app.cli_training import app
from models.forward import run
from models.history import STRENGTHS, Strengths
from models.recall import recall
from models.score import score
from tests.training.conftest import random_model
from training import fit_history
from training.corpora import read_whole_documents
from training.with_history import (
    draw_documents,
    draw_lines,
    histories,
    history_metrics,
    other_histories,
)

DOCUMENTS = [["the cat", "a cat sees", "the dog"], ["a dog", "a dog sees the cat"], ["milk"]]


@pytest.fixture
def blocks(tmp_path):
    path = tmp_path / "blocks.txt"
    path.write_text("\n\n".join("\n".join(document) for document in DOCUMENTS) + "\n")
    return path


def test_whole_documents_of_each_format(tmp_path, blocks):
    assert list(read_whole_documents(blocks)) == DOCUMENTS
    lines = tmp_path / "lines.txt"
    lines.write_text("a\nb\nc\n")
    assert list(read_whole_documents(lines)) == [["a", "b", "c"]]
    wikitext = tmp_path / "wikitext.txt"
    article = " = {} = \n \n It is one . A <unk> . It is two . \n = = Part = = \n \n Three . \n"
    wikitext.write_text(article.format("One") + article.format("Two"))
    expected = ["It is one.", "It is two.", "Three."]
    assert list(read_whole_documents(wikitext)) == [expected, expected]


def test_documents_are_drawn_whole_and_the_last_is_cut(blocks):
    for lines in range(1, 7):
        drawn = draw_documents(blocks, lines=lines, seed=3)
        assert sum(map(len, drawn)) == lines
        for document in drawn[:-1]:
            assert document in DOCUMENTS
        assert any(whole[: len(drawn[-1])] == drawn[-1] for whole in DOCUMENTS)
    assert draw_documents(blocks, lines=99, seed=3) != draw_documents(blocks, lines=99, seed=4)


def test_a_history_is_what_stands_before_a_line():
    assert histories(DOCUMENTS) == ["", "the cat", "the cat\na cat sees", "", "a dog", ""]
    others = ["a dog\na dog sees the cat", "milk", "the cat\na cat sees\nthe dog"]
    assert other_histories(DOCUMENTS, DOCUMENTS) == [
        *[others[0]] * 3, *[others[1]] * 2, others[2]
    ]  # fmt: skip
    assert len(histories([["a" * 20_000, "b"]])[1]) == 16_384


@pytest.mark.parametrize("kind", ["subword", "word"])
def test_metrics_are_what_scores_add_up_to(blocks, tokenizers, kind):
    model = random_model("lstm", tokenizers[kind])
    done = []
    metrics = history_metrics(
        model, blocks, lines=99, seed=0, progress=lambda *counts: done.append(counts)
    )
    assert done[-1] == (18, 18)
    drawn = draw_documents(blocks, lines=99, seed=0)
    words = sum(len(line.split()) for document in drawn for line in document)

    def perplexity(log_probs):
        return pytest.approx(math.exp(-sum(log_probs) / words), rel=1e-4)

    texts = [line for document in drawn for line in document]
    alone = [run(score(model, text), model).log_prob for text in texts]
    assert metrics["perplexity_of_lines_alone"].value == perplexity(alone)
    for name, given in (
        ("with_history", histories(drawn)),
        ("with_other_history", other_histories(drawn, drawn)),
    ):
        found = [
            run(recall(model, history, score(model, text)), model).log_prob
            for history, text in zip(given, texts, strict=True)
        ]
        assert metrics[f"perplexity_of_lines_{name}"].value == perplexity(found)
    carried = [
        run(score(model, line, context="\n".join([*document[:i], ""])), model).log_prob
        for document in drawn
        for i, line in enumerate(document)
    ]
    assert metrics["perplexity_of_lines_carried"].value == perplexity(carried)
    for metric in metrics.values():
        assert metric.interval[0] <= metric.value <= metric.interval[1]


def test_lines_of_an_only_document_begin_anywhere_and_have_what_stands_before(tmp_path):
    path = tmp_path / "lines.txt"
    lines = [f"line {i} is here" for i in range(2000)]
    path.write_text("\n".join(lines) + "\n")
    starts = set()
    for seed in range(9):
        drawn = draw_lines(path, lines=5, seed=seed)
        (document,) = drawn.documents
        start = lines.index(document[drawn.first])
        assert document[drawn.first :] == lines[start : start + 5]
        assert histories([document])[drawn.first] == "\n".join(lines[:start])[-16_384:]
        starts.add(start)
    assert len(starts) == 9
    whole = draw_lines(path, lines=2000, seed=0)
    assert (whole.documents, whole.first) == ([lines], 0)


@pytest.mark.parametrize(("lines", "told"), [(3, "lines in a row"), (9, "all lines")])
def test_one_document_has_no_interval(tmp_path, tokenizers, lines, told):
    path = tmp_path / "lines.txt"
    texts = [line for document in DOCUMENTS for line in document]
    path.write_text("\n".join(texts) + "\n")
    model = random_model("lstm", tokenizers["subword"])
    metrics = history_metrics(model, path, lines=lines, seed=1)
    drawn = draw_lines(path, lines=lines, seed=1)
    (document,) = drawn.documents
    assert bool(drawn.first) == (lines == 3)
    scored = document[drawn.first :]
    words = sum(len(text.split()) for text in scored)
    carried = [
        run(score(model, line, context="\n".join([*document[:i], ""])), model).log_prob
        for i, line in enumerate(document)
    ][drawn.first :]
    alone = [run(score(model, text), model).log_prob for text in scored]
    for name, log_probs in (("carried", carried), ("alone", alone)):
        expected = pytest.approx(math.exp(-sum(log_probs) / words), rel=1e-4)
        assert metrics[f"perplexity_of_lines_{name}"].value == expected
    for metric in metrics.values():
        assert metric.interval is None
        assert f"{told} of the only document" in metric.definition
        assert metric.definition.endswith(f"; {len(scored)} lines")


def test_the_fit_computes_what_is_served(blocks, tokenizers):
    model = random_model("gru", tokenizers["subword"])
    drawn = draw_documents(blocks, lines=99, seed=0)
    texts = [line for document in drawn for line in document]
    given = histories(drawn)
    lines = fit_history.collect(model, texts, given, name="small", related=True)
    total = sum(
        run(recall(model, history, score(model, text)), model).log_prob
        for history, text in zip(given, texts, strict=True)
    )
    # A line without a history is served as it stands; its readers agree but for switching weights.
    expected = math.exp(-total / lines.words)
    found = float(lines.perplexity(*fit_history._tensors(STRENGTHS)))
    assert found == pytest.approx(expected, rel=0.02)
    some = [i for i, history in enumerate(given) if history]
    texts, given = [texts[i] for i in some], [given[i] for i in some]
    lines = fit_history.collect(model, texts, given, name="small", related=True)
    total = sum(
        run(recall(model, history, score(model, text)), model).log_prob
        for history, text in zip(given, texts, strict=True)
    )
    found = float(lines.perplexity(*fit_history._tensors(STRENGTHS)))
    assert found == pytest.approx(math.exp(-total / lines.words), rel=1e-4)


def test_a_fit_is_better_and_keeps_to_what_it_may_cost(tokenizers):
    model = random_model("gru", tokenizers["subword"])
    texts = [" ".join(document) for document in DOCUMENTS]
    same = fit_history.collect(model, texts, texts, name="same", related=True)
    other = fit_history.collect(model, texts, ["milk"] * 3, name="other", related=False)
    best, _ = fit_history.fit([same, other], most_cost=0.5)
    today = float(same.perplexity(*fit_history._tensors(STRENGTHS)))
    assert float(same.perplexity(*fit_history._tensors(best))) < today
    assert min(*best.between, *best.within) > 0
    careful, _ = fit_history.fit([same, other], most_cost=-1.0)
    assert (careful.repeating, careful.knowing) == (0.05, 0.05)
    assert isinstance(best, Strengths)
    assert torch.is_grad_enabled()


def test_commands(blocks, checkpoint):
    folder, _ = checkpoint
    options = ["evaluate", str(folder), "--data", str(blocks), "--sample", "0", "--history", "6"]
    result = CliRunner().invoke(app, options, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    for title in ("each line alone", "the lines before it as history", "carried"):
        assert title in " ".join(result.stdout.split()), result.stdout
    command = typer.Typer()
    command.command()(fit_history.main)
    options = [str(folder), "--data", str(blocks), "--data", str(blocks), "--lines", "5"]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Strengths(")

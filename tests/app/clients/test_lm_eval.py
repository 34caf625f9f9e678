"""EleutherAI's lm-evaluation-harness itself, on tasks made here, against a served model."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from models.forward import run
from models.generate import generate
from models.language_model import LanguageModel
from tests.app.clients.oracle import continuation_log_probs, greedy
from tests.app.conftest import SUBWORD, WORD, sentences
from tests.app.test_server import served, wait_for

Models = dict[str, LanguageModel]
HARNESS = Path(sys.prefix) / "lm-eval"  # where scripts/test puts it
QUESTIONS = 24


def swapped(sentence: str) -> str:
    words = sentence.split(" ")
    words[0], words[1] = words[1], words[0]
    return " ".join(words)


def documents() -> list[dict]:
    """Questions with two and three answers, pairs of sentences, and texts to go on."""
    rng = random.Random(11)
    found = []
    for sentence in sentences(QUESTIONS):
        first, *rest = sentence.split(" ")
        answers = [" ".join(rng.sample(rest, len(rest))) for _ in range(rng.choice((1, 2)))]
        label = rng.randrange(len(answers) + 1)
        answers.insert(label, " ".join(rest))
        found.append(
            {
                "question": f"you don't like coffee.\n{first}",
                "choices": answers,
                "label": label,
                "good": sentence,
                "bad": swapped(sentence),
                "page": f"{sentence}\n{swapped(sentence)}",
            }
        )
    return found


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    """A folder of tasks, in the harness' own form."""
    folder = tmp_path_factory.mktemp("tasks")
    docs = documents()
    for i, doc in enumerate(docs):
        # For half of them what the subword model says, so that some answers are right.
        (result,) = run(
            generate(models[SUBWORD], doc["good"], max_tokens=6), models[SUBWORD]
        ).results
        doc["answer"] = result.text.strip() if i % 2 else "no"
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "docs.jsonl")}},
        "test_split": "test",
        "metadata": {"version": 1},
    }
    choices = common | {"output_type": "multiple_choice"}
    metrics = [{"metric": "acc"}, {"metric": "acc_norm"}]
    described = {
        "tiny_choice": choices
        | {
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "label",
            "metric_list": metrics,
        },
        "tiny_pairs": choices
        | {
            "doc_to_text": "",
            "doc_to_choice": "{{[good, bad]}}",
            "doc_to_target": 0,
            "target_delimiter": "",
            "metric_list": metrics[:1],
        },
        "tiny_speak": common
        | {
            "output_type": "generate_until",
            "doc_to_text": "{{good}}",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        },
        "tiny_page": common
        | {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
    }
    for name, task in described.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name} | task))
    return folder


# What the harness is told beside model and address: several at a time, and tokens or texts.
RUNS = {
    "subword-tokens": {"model": SUBWORD, "tokenized_requests": True, "batch_size": 4},
    "word-tokens": {
        "model": WORD,
        "tokenized_requests": True,
        "num_concurrent": 4,
        "batch_size": 2,
    },
    "subword-texts": {"model": SUBWORD, "tokenized_requests": False, "num_concurrent": 2},
}


@pytest.fixture(scope="module")
def addresses(
    address: str, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Where each model is the default: the harness asks for the tokens of no other."""
    folder = tmp_path_factory.mktemp("word")
    with served(models_dir, folder, DEFAULT_MODEL=WORD) as (process, client, _):
        wait_for(client, process, "/ready")
        yield {SUBWORD: address, WORD: str(client.base_url).rstrip("/")}


@pytest.fixture(scope="module")
def evaluated(addresses: dict, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The harness' results, and what it was answered to each question, by run."""
    if not HARNESS.is_dir():
        pytest.fail("the harness is not installed: run the tests with scripts/test")
    out = tmp_path_factory.mktemp("evaluated")
    common = {"tokenizer_backend": "remote", "max_retries": 1}
    runs = [
        common | run | {"base_url": f"{addresses[run['model']]}/v1/completions"}
        for run in RUNS.values()
    ]
    environment = os.environ | {
        "PYTHONPATH": str(HARNESS),
        "HF_HOME": str(out / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "harness.py", tasks, out / "found.json"],
        input=json.dumps(runs),
        cwd=out,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-100_000:]
    return dict(zip(RUNS, json.loads((out / "found.json").read_text()), strict=True))


def expected_choice(
    model: LanguageModel, before: Sequence[int], question: str, choices: Sequence[str]
) -> list[tuple[float, bool]]:
    """Return what the model itself says of each answer."""
    tokenizer = model.tokenizer
    *_, line = question.split("\n")
    context = [*before, *(tokenizer.encode_context(question)[1:] if question else ())]
    found = []
    for choice in choices:
        whole = tokenizer.encode(f"{line} {choice}" if line else choice).token_ids
        after = whole[len(tokenizer.encode(line).token_ids) :]
        log_probs, best = continuation_log_probs(model, context, after)
        found.append((float(log_probs.sum()), bool(best.all())))
    return found


def check_choices(results, answers, expected, docs, *, task: str) -> None:
    right = normalised = 0
    for doc, answer, pairs in zip(docs, answers[task], expected, strict=True):
        choices = doc["choices"] if task == "tiny_choice" else [doc["good"], doc["bad"]]
        label = doc["label"] if task == "tiny_choice" else 0
        for ((log_prob, is_greedy),), pair in zip(answer, pairs, strict=True):
            assert float(log_prob) == pytest.approx(pair[0], abs=1e-3)
            assert str(is_greedy) == str(pair[1])
        scores = [log_prob for log_prob, _ in pairs]
        lengths = [len(choice) for choice in choices]
        right += scores.index(max(scores)) == label
        per_character = [score / length for score, length in zip(scores, lengths, strict=True)]
        normalised += per_character.index(max(per_character)) == label
    assert 0 < right < len(docs)  # else it would tell little
    assert results[task]["acc,none"] == pytest.approx(right / len(docs))
    if task == "tiny_choice":
        assert results[task]["acc_norm,none"] == pytest.approx(normalised / len(docs))


@pytest.mark.parametrize("name", RUNS)
def test_it_finds_what_the_model_says(evaluated: dict, models: Models, tasks: Path, name):
    results, answers = evaluated[name]["results"], evaluated[name]["answers"]
    model, as_tokens = models[RUNS[name]["model"]], RUNS[name]["tokenized_requests"]
    tokenizer = model.tokenizer
    docs = [json.loads(line) for line in (tasks / "docs.jsonl").read_text().splitlines()]
    # Token ids are read bare, a text behind BOS; where there is no context the harness names BOS.
    begin = [] if as_tokens else [tokenizer.bos_id]
    choice = [expected_choice(model, begin, doc["question"], doc["choices"]) for doc in docs]
    check_choices(results, answers, choice, docs, task="tiny_choice")
    pairs = [
        expected_choice(model, [tokenizer.bos_id], "", [doc["good"], doc["bad"]]) for doc in docs
    ]
    check_choices(results, answers, pairs, docs, task="tiny_pairs")

    spoken = 0
    for doc, ((text,),) in zip(docs, answers["tiny_speak"], strict=True):
        token_ids = [*begin, *tokenizer.encode(doc["good"]).token_ids]
        line = tokenizer.encode(doc["good"]).token_ids
        found = greedy(model, token_ids, 6)
        assert text == tokenizer.decode([*line, *found])[len(tokenizer.decode(line)) :]
        spoken += text == doc["answer"]
    assert results["tiny_speak"]["exact_match,none"] == pytest.approx(spoken / len(docs))

    for doc, ((log_prob,),) in zip(docs, answers["tiny_page"], strict=True):
        row = tokenizer.encode_context(doc["page"])
        expected = continuation_log_probs(model, row[:1], row[1:])[0].sum()
        assert float(log_prob) == pytest.approx(float(expected), abs=1e-3)

"""The command: tables for people, the service's answers with --json, one line for what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app
from tests.app.conftest import SUBWORD, WORD

BOTH = pytest.mark.parametrize("name", [SUBWORD, WORD])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("NEXTWORD_DEFAULT_MODEL", SUBWORD)
    monkeypatch.setenv("COLUMNS", "120")


def nextword(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@BOTH
def test_json_is_the_services_answer(client: TestClient, name):
    def asked(path: str, **body):
        return client.post(path, json={"model": name} | body).json()

    model = ("--model", name, "--json")
    assert json.loads(nextword("next", "we", "-k", "3", "--candidate", "coffee", *model)) == asked(
        "/next-word", text="we", top_k=3, candidates=["coffee"]
    )
    options = ("--prefix", "ho", "--exclude", "hot", "--temperature", "2", "--punctuation")
    assert json.loads(nextword("next", "a", *options, *model)) == asked(
        "/next-word", text="a", prefix="ho", exclude=["hot"], temperature=2.0, words_only=False
    )
    assert json.loads(nextword("next", "a", "--words", "2", "-k", "2", *model)) == asked(
        "/next-word", text="a", num_words=2, top_k=2
    )
    texts = ["we sold coffee.", "you"]
    assert json.loads(nextword("score", *texts, "--context", "so", "--tokens", *model)) == asked(
        "/score", text=texts, context="so", tokens=True
    )
    assert json.loads(nextword("score", texts[0], "--no-bos", "--no-eos", *model)) == asked(
        "/score", text=[texts[0]], bos=False, eos=False
    )
    sampling = ("--strategy", "sample", "--seed", "3", "--temperature", "0.9", "--top-k", "40")
    more = ("--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.2", "--stop", "!")
    tail = ("-n", "2", "--max-tokens", "9", "--log-probs")
    assert json.loads(nextword("generate", "we", *sampling, *more, *tail, *model)) == asked(
        "/generate",
        text="we",
        strategy="sample",
        seed=3,
        temperature=0.9,
        top_k=40,
        top_p=0.9,
        min_p=0.01,
        repetition_penalty=1.2,
        stop=["!"],
        n=2,
        max_tokens=9,
        log_probs=True,
    )


def test_defaults_are_the_services(client: TestClient):
    answer = client.post("/next-word", json={"text": "we"}).json()
    assert json.loads(nextword("next", "we", "--json")) == answer
    answer = client.post("/generate", json={"text": "we"}).json()
    assert json.loads(nextword("generate", "we", "--json")) == answer


def test_next_prints_words_probabilities_and_bars(client: TestClient):
    answer = client.post("/next-word", json={"text": "we", "top_k": 3, "model": WORD}).json()
    lines = nextword("next", "we", "-k", "3", "-m", WORD, "--candidate", "zzz").splitlines()
    for line, prediction in zip(lines[1:], answer["predictions"], strict=False):
        rank, word, probability, bar = line.split()
        assert (int(rank), word) == (prediction["rank"], prediction["word"])
        assert probability == f"{prediction['probability']:.2%}"
        assert set(bar) <= set("█▉▊▋▌▍▎▏")
    assert "zzz" in lines[4]
    assert "not in the vocabulary" in lines[4]
    assert lines[5].startswith(f"{WORD} saw ")


def test_score_prints_each_sentence_and_its_words(client: TestClient):
    output = nextword("score", "we sold [red]coffee", "--tokens", "--model", WORD)
    (result,) = client.post(
        "/score", json={"text": "we sold [red]coffee", "tokens": True, "model": WORD}
    ).json()["results"]
    lines = output.splitlines()
    assert lines[0] == "we sold [red]coffee"
    assert f"log-probability {result['log_prob']:.2f}" in lines[1]
    assert f"{result['oov_count']} unknown" in lines[1]
    for line, word in zip(lines[3:], result["words"], strict=False):
        assert line.startswith(word["text"])
        assert f"{word['log_prob']:.3f}" in line
    assert "nothing to score" in nextword("score", "", "--no-eos")
    assert nextword("score", "we\x1b[31m\x0csold", "--model", WORD).startswith("we�[31m�sold\n")


@pytest.mark.parametrize(("strategy", "n"), [("sample", 1), ("sample", 3), ("beam", 2)])
def test_generate_prints_the_text(strategy, n):
    arguments = ("generate", "we sold", "--strategy", strategy, "--seed", "4", "-n", str(n))
    arguments += ("--model", WORD)
    answer = json.loads(nextword(*arguments, "--json"))
    output = nextword(*arguments)
    for result in answer["results"]:
        assert f"we sold{result['text']}\n" in output
        assert f"log-probability {result['log_prob']:.2f}" in output
    assert output.count("we sold") == n


def test_a_model_may_be_a_folder(models_dir: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", str(tmp_path))
    answer = json.loads(nextword("next", "we", "--model", str(models_dir / WORD), "--json"))
    assert answer["model"] == WORD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("next", "a", "-k", "0"), "top_k: "),
        (("next", "a", "--prefix", "a b"), "prefix: must not contain white space"),
        (("next", "a", "--words", "9"), "num_words: "),
        (("score",), "Missing argument"),
        (("generate", "a", "--strategy", "guess"), "strategy: "),
        (("generate", "a", "--strategy", "beam", "-n", "9"), "n: must be at most num_beams"),
        (("generate", "a", "--max-tokens", "many"), "--max-tokens"),
        (("next", "a", "--model", "nobody"), "no model nobody in "),
        (("next", "a", "--model", "broken"), "broken/config.json: not JSON"),
        (("serve", "--models-dir", "/nowhere"), "/nowhere: no such folder"),
        (("serve", "--port", "70000"), "--port"),
        (("predict",), "No such command"),
    ],
)
def test_what_a_user_can_mend_is_one_clear_error(arguments, message):
    error = refused(*arguments)
    assert message in error
    if error.startswith("error: "):
        assert error.count("\n") == 1


def test_a_wrong_setting_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("NEXTWORD_PORT", "http")
    assert refused("next", "a").startswith("error: port: ")


def test_no_checkpoint_is_one_clear_error(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("NEXTWORD_DEFAULT_MODEL")
    monkeypatch.setenv("NEXTWORD_MODELS_DIR", str(tmp_path))
    assert "holds no checkpoint folder" in refused("next", "a")


def test_help_names_every_command():
    output = nextword("--help")
    for command in ("serve", "next", "score", "generate", "train", "evaluate"):
        assert f" {command} " in output


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert nextword("--version").strip() == version("nextword")


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_command_starts_without_torch_and_predicts_without_training():
    heavy = "{'torch', 'fastapi', 'uvicorn', 'training', 'matplotlib', 'tensorboard'}"
    assert python(f"import sys, app.cli; print(sorted({heavy} & set(sys.modules)))") == "[]\n"
    loaded = python(
        "import sys\n"
        "from app.cli import app\n"
        "app(['next', 'we', '--json'], standalone_mode=False)\n"
        "import app.server\n"
        f"print(sorted(({heavy} - {{'torch', 'fastapi', 'uvicorn'}}) & set(sys.modules)))"
    )
    assert loaded.endswith("[]\n")


def test_arguments_that_are_not_unicode_are_refused():
    command = [Path(sys.executable).parent / "nextword", "next", b"a\xff"]
    result = subprocess.run(command, capture_output=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr == b"error: the arguments are not valid Unicode\n"

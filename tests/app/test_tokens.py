"""Tokens over HTTP: there and back, and prompts that name special tokens."""

import pytest
from fastapi.testclient import TestClient

from models.language_model import LanguageModel
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
BOTH = pytest.mark.parametrize("name", [SUBWORD, WORD])


def tokens(client: TestClient, name: str, **body) -> list[int]:
    answer = client.post("/tokenize", json={"model": name} | body).json()
    assert answer["model"] == name
    assert answer["count"] == len(answer["tokens"])
    return answer["tokens"]


@BOTH
def test_text_becomes_the_models_tokens_and_comes_back(client, models: Models, name):
    text = "my sister sold coffee, I think."
    tokenizer = models[name].tokenizer
    expected = tokenizer.encode(text).token_ids
    assert tokens(client, name, text=text) == [tokenizer.bos_id, *expected]
    assert tokens(client, name, text=text, add_special_tokens=False) == expected
    assert tokens(client, name, prompt=text, add_special_tokens=False) == expected
    answer = client.post("/detokenize", json={"model": name, "tokens": expected}).json()
    assert answer == {"model": name, "text": text, "prompt": text}


@BOTH
def test_a_prompt_may_name_special_tokens_and_a_text_may_not(client, models: Models, name):
    tokenizer = models[name].tokenizer
    info = client.get("/tokenizer_info", params={"model": name}).json()
    eos = info["eos_token"]
    assert tokens(client, name, prompt=eos, add_special_tokens=False) == [tokenizer.eos_id]
    assert tokens(client, name, prompt=f"coffee{eos}you", add_special_tokens=False) == [
        *tokenizer.encode("coffee").token_ids,
        tokenizer.eos_id,
        *tokenizer.encode("you").token_ids,
    ]
    as_text = tokens(client, name, text=eos, add_special_tokens=False)
    assert tokenizer.eos_id not in as_text
    assert len(as_text) > 1


@BOTH
def test_a_prompt_that_begins_a_sentence_itself_gets_no_second_beginning(client, models, name):
    tokenizer = models[name].tokenizer
    words = tokenizer.encode("we sold").token_ids
    for special in (True, False):
        asked = {"add_special_tokens": special}
        assert tokens(client, name, prompt="<s>we sold", **asked) == [tokenizer.bos_id, *words]
    assert tokens(client, name, prompt="<s>") == [tokenizer.bos_id]
    as_text = tokenizer.encode("<s>we").token_ids
    assert tokens(client, name, text="<s>we") == [tokenizer.bos_id, *as_text]


@BOTH
def test_the_tokenizer_is_described(client, models: Models, name):
    tokenizer = models[name].tokenizer
    assert client.get("/tokenizer_info", params={"model": name}).json() == {
        "model": name,
        "kind": "word" if name == WORD else "subword",
        "vocab_size": tokenizer.vocab_size,
        "bos_token": "<s>",
        "bos_token_id": tokenizer.bos_id,
        "eos_token": "</s>",
        "eos_token_id": tokenizer.eos_id,
        "unk_token": "<unk>" if name == WORD else None,
        "unk_token_id": tokenizer.unk_id,
        "max_model_len": 12 if name == WORD else None,
    }


def test_the_default_models_tokenizer(client: TestClient):
    assert client.get("/tokenizer_info").json()["model"] == SUBWORD
    assert client.get("/tokenizer_info", params={"model": "nobody"}).status_code == 404
    assert client.get("/tokenizer_info", params={"model": "m" * 256}).status_code == 422


@BOTH
def test_every_token_id_can_be_turned_into_text(client, models: Models, name):
    everything = list(range(models[name].tokenizer.num_ids))
    answer = client.post("/detokenize", json={"model": name, "tokens": everything})
    assert "hotel" in answer.json()["text"]
    beyond = client.post("/detokenize", json={"model": name, "tokens": [len(everything)]})
    assert beyond.status_code == 422

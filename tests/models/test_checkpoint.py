"""A checkpoint comes back as it was saved."""

import hashlib
import json
import os

import pytest
import safetensors.torch
import torch

from models.checkpoint import load_checkpoint, save_checkpoint, update_config
from models.forward import run
from models.score import score
from tests.models.helpers import KINDS, model_of

TEXT = "the cat doesn't see a dog, again."


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokenizer", ["subword", "word", "wikitext"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_saved_comes_back(tmp_path, kind, tokenizer, dtype):
    model = model_of(kind, tokenizer, tied=kind != "gru")
    details = {"corpus": "a grammar", "metrics": {"perplexity": 12.5}, "note": "naïve"}
    folder = tmp_path / "my-model"
    save_checkpoint(
        folder, model.network, model.tokenizer, temperature=1.25, details=details, dtype=dtype
    )
    loaded = load_checkpoint(folder)
    assert loaded.name == "my-model"
    assert loaded.details == details
    assert loaded.temperature == 1.25
    assert loaded.network.config == model.network.config
    assert loaded.num_parameters == model.num_parameters
    weights = (folder / "model.safetensors").read_bytes()
    assert loaded.checksum == hashlib.sha256(weights).hexdigest()
    assert not loaded.network.training
    before = model.network.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
        assert torch.equal(tensor, before[name].to(dtype).float())
    assert loaded.tokenizer.encode(TEXT) == model.tokenizer.encode(TEXT)
    if dtype == torch.float32:
        ids = torch.tensor([model.tokenizer.encode_context(TEXT)])
        assert torch.equal(loaded.network(ids)[0], model.network(ids)[0])
    assert run(score(loaded, TEXT), loaded).scored_tokens > 5


def test_a_folder_holds_no_more_than_it_says(tmp_path):
    model = model_of("lstm")
    save_checkpoint(tmp_path, model.network, model.tokenizer)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["network"]["kind"] == "lstm"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_a_folder_may_read_its_files(tmp_path, mask):
    """A service under another user than the one that trained."""
    model = model_of("lstm")
    before = os.umask(mask)
    try:
        save_checkpoint(tmp_path, model.network, model.tokenizer)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(
        ("config.json", "model.safetensors", "tokenizer.json"), 0o666 & ~mask
    )


@pytest.mark.parametrize("wanted", [0x0480, 0x4B50])
def test_a_header_as_long_as_a_pickle_begins(tmp_path, wanted):
    """Safetensors begin with the length of their header: here bytes that a pickle begins with."""
    model = model_of("gru")
    save_checkpoint(tmp_path, model.network, model.tokenizer)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    for length in range(0, 20_000, 8):
        weights = safetensors.torch.save(tensors, metadata={"note": "x" * length})
        if int.from_bytes(weights[:8], "little") == wanted:
            break
    (tmp_path / "model.safetensors").write_bytes(weights)
    config = json.loads((tmp_path / "config.json").read_text())
    config["checksums"]["model.safetensors"] = hashlib.sha256(weights).hexdigest()
    del config["checksums"]["config.json"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_checkpoint(tmp_path)


def test_half_precision_takes_half_the_room(tmp_path):
    model = model_of("lstm", hidden_size=64)
    for dtype in (torch.float32, torch.float16):
        save_checkpoint(tmp_path / str(dtype), model.network, model.tokenizer, dtype=dtype)
    sizes = [(p / "model.safetensors").stat().st_size for p in sorted(tmp_path.iterdir())]
    assert sizes[0] < 0.55 * sizes[1]


def test_saving_again_replaces_the_files(tmp_path):
    for seed in (0, 1):
        model = model_of("gru", seed=seed)
        save_checkpoint(tmp_path, model.network, model.tokenizer, dtype=torch.float32)
        loaded = load_checkpoint(tmp_path)
        expected = model.network.state_dict()
        assert all(torch.equal(w, expected[n]) for n, w in loaded.network.state_dict().items())


def test_a_save_that_was_cut_short_is_refused(tmp_path, monkeypatch):
    """Whatever was written before the cut, the old configuration does not vouch for it."""
    from models.errors import CheckpointError

    model = model_of("gru")
    save_checkpoint(tmp_path, model.network, model.tokenizer)

    def cut(*_):
        raise KeyboardInterrupt

    other = model_of("gru", seed=1)
    monkeypatch.setattr("models.checkpoint._checksum", cut)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, other.network, other.tokenizer)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_details_are_replaced_and_nothing_else(tmp_path):
    model = model_of("gru")
    save_checkpoint(tmp_path, model.network, model.tokenizer, temperature=1.5, details={"a": 1})
    before = load_checkpoint(tmp_path)
    update_config(tmp_path, details={"b": [2]})
    after = load_checkpoint(tmp_path)
    assert after.details == {"b": [2]}
    assert (after.temperature, after.checksum) == (1.5, before.checksum)
    assert len([*tmp_path.iterdir()]) == 3

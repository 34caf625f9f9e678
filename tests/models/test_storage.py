"""Weights in bytes come back near what they were, and what nothing wrote is refused."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from models.checkpoint import load_checkpoint, save_checkpoint
from models.errors import CheckpointError, CorruptFileError, MismatchError
from models.storage import SCALE, from_stored, to_stored
from tests.models.helpers import KINDS, model_of
from tests.models.test_checkpoint_refusals import CONFIG, FILES, WEIGHTS, refused, retyped, write

MATRIX, BIAS = "embedding.weight", "output_bias"
BELOW = CorruptFileError, "below 0"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The files of a checkpoint in bytes that loads, by name."""
    folder, model = tmp_path_factory.mktemp("bytes"), model_of("lstm")
    save_checkpoint(folder, model.network, model.tokenizer, dtype=torch.int8)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_come_back_within_half_a_scale(tmp_path, kind):
    model = model_of(kind, tied=kind != "gru")
    with torch.no_grad():
        model.network.embedding.weight[3] = 0
        model.network.embedding.weight[4] *= 1e-40  # too little for a scale
    save_checkpoint(tmp_path, model.network, model.tokenizer, dtype=torch.int8)
    loaded = load_checkpoint(tmp_path)
    assert loaded.network.config == model.network.config
    before = model.network.state_dict()
    for name, weight in loaded.network.state_dict().items():
        assert weight.dtype == torch.float32
        if weight.ndim == 1:
            assert torch.equal(weight, before[name])
            continue
        peaks = before[name].abs().amax(1, keepdim=True)
        assert ((weight - before[name]).abs() <= peaks / 254 * 1.001 + 1e-30).all()
        assert torch.allclose(weight.abs().amax(1, keepdim=True), peaks, rtol=1e-6, atol=1e-30)
    assert not loaded.network.embedding.weight[3:5].any()


def test_storing_again_changes_nothing(tmp_path):
    config = model_of("gru").network.config
    once = to_stored(model_of("gru").network.state_dict(), torch.int8)
    weights = from_stored(once, config, tmp_path)
    twice = to_stored(weights, torch.int8)
    for name, tensor in once.items():
        if tensor.dtype == torch.int8 or (tensor.ndim == 1 and not name.endswith(SCALE)):
            assert torch.equal(twice[name], tensor)


def test_eleven_million_weights_take_less_than_twelve_megabytes():
    from models.networks import network_config

    sizes = {"kind": "lstm", "vocab_size": 16384, "num_ids": 16385, "embedding_size": 384}
    shapes = dict(network_config(sizes | {"hidden_size": 640, "num_layers": 1}).shapes())
    shapes["layers.weight_hh_l1"] = (2560, 640)
    assert sum(np.prod(shape) for shape in shapes.values()) > 10.5e6
    stored = to_stored({name: torch.zeros(shape) for name, shape in shapes.items()}, torch.int8)
    assert len(safetensors.torch.save(stored)) < 12e6


def test_the_format_says_that_there_are_bytes(tmp_path, sound):
    assert json.loads(sound[CONFIG])["format_version"] == 2
    write(tmp_path, sound)
    load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda n, t: None if n == MATRIX + SCALE else t, MismatchError, "is missing"),
        (lambda n, t: t[:-1].clone() if n == MATRIX else t, MismatchError, "has shape"),
        (lambda n, t: t[:-1].clone() if n == MATRIX + SCALE else t, MismatchError, "has shape"),
        (lambda n, t: t.float() if n == MATRIX else t, MismatchError, "does not belong"),
        (lambda n, t: t.to(torch.int16) if n == MATRIX else t, MismatchError, "does not belong"),
        (lambda n, t: t.to(torch.int8) if n == BIAS else t, MismatchError, "not floating point"),
        (lambda n, t: t.int() if n == MATRIX + SCALE else t, MismatchError, "not floating point"),
        (lambda n, t: t * 0 - 128 if n == MATRIX else t, CorruptFileError, "-128"),
        (lambda n, t: t * torch.nan if n == MATRIX + SCALE else t, CorruptFileError, "not finite"),
        (lambda n, t: -t if n == MATRIX + SCALE else t, *BELOW),
        (lambda n, t: (-t).to(torch.float8_e5m2) if n == MATRIX + SCALE else t, *BELOW),
        (lambda n, t: t * 0 + 3e38 if n == MATRIX + SCALE else t, CorruptFileError, "too large"),
    ],
)
def test_bytes_that_nothing_wrote(tmp_path, sound, change, error, said):
    write(tmp_path, retyped(sound, change))
    refused(tmp_path, error, WEIGHTS, said)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float32])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_stored(dtype, wrong):
    weights = {"sound": torch.ones(3), "diverged": torch.tensor([[1.0, wrong], [2.0, 3.0]])}
    with pytest.raises(ValueError, match="'diverged' holds numbers that are not finite"):
        to_stored(weights, dtype)


def test_a_scale_of_nothing(tmp_path, sound):
    tensors = safetensors.torch.load(sound[WEIGHTS])
    tensors[BIAS + SCALE] = torch.ones(len(tensors[BIAS]))
    write(tmp_path, sound | {WEIGHTS: safetensors.torch.save(tensors)})
    with pytest.raises(CheckpointError, match="does not belong"):
        load_checkpoint(tmp_path)

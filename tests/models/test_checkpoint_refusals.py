"""A checkpoint that cannot be used is refused, with the file's name and what is wrong with it."""

import hashlib
import json
import pickle
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel

from models.checkpoint import load_checkpoint, save_checkpoint, update_config
from models.errors import (
    CheckpointError,
    CorruptFileError,
    FormatVersionError,
    MismatchError,
    MissingFileError,
)
from tests.models.helpers import bounded, model_of, network_of, tokenizer_of

CONFIG, WEIGHTS, TOKENIZER = FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The files of a checkpoint that loads, by name."""
    folder, model = tmp_path_factory.mktemp("sound"), model_of("lstm")
    save_checkpoint(folder, model.network, model.tokenizer, dtype=torch.float32)
    load_checkpoint(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


def write(folder, files, *, vouched=True):
    """Write the files; ``vouched`` puts right the checksums, as a careful forger would."""
    files = dict(files)
    if vouched:
        config = json.loads(files[CONFIG])
        config["checksums"] = {
            name: hashlib.sha256(files[name]).hexdigest() for name in (WEIGHTS, TOKENIZER)
        }
        files[CONFIG] = json.dumps(config).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def refused(folder, error, *said):
    with pytest.raises(error) as raised:
        load_checkpoint(folder)
    for part in said:
        assert part in str(raised.value)


def with_config(sound, **changed):
    """Change the configuration, which says nothing of its own checksum: as older ones do."""
    config = json.loads(sound[CONFIG])
    del config["checksums"][CONFIG]
    return sound | {CONFIG: json.dumps(config | changed).encode()}


def with_network(sound, **changed):
    network = json.loads(sound[CONFIG])["network"]
    return with_config(sound, network=network | changed)


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", MissingFileError, "nowhere", CONFIG)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(tmp_path, sound, name):
    write(tmp_path, sound)
    (tmp_path / name).unlink()
    refused(tmp_path, MissingFileError, str(tmp_path / name))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file(tmp_path, sound, name):
    write(tmp_path, sound)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    refused(tmp_path, CorruptFileError, str(tmp_path / name))


def test_a_file_that_cannot_be_read(tmp_path, sound):
    write(tmp_path, sound)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / WEIGHTS).symlink_to(WEIGHTS)  # to itself
    refused(tmp_path, CheckpointError, str(tmp_path / WEIGHTS))


@pytest.mark.parametrize("vouched", [True, False])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file(tmp_path, sound, name, share, vouched):
    files = sound | {name: sound[name][: int(share * len(sound[name]))]}
    write(tmp_path, files, vouched=vouched and name != CONFIG)
    refused(tmp_path, CorruptFileError, name)


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_flipped_byte(tmp_path, sound, name):
    content = bytearray(sound[name])
    content[-10] ^= 1
    write(tmp_path, sound | {name: bytes(content)}, vouched=False)
    refused(tmp_path, CorruptFileError, name)


def changes(value, path=()):
    """Yield a copy of a configuration for each value in it, that one changed, and its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        copy = dict(value) if isinstance(value, dict) else list(value)
        if isinstance(inner, dict | list):
            for changed, where in changes(inner, (*path, key)):
                copy[key] = changed
                yield copy.copy(), where
        else:
            if isinstance(inner, bool):
                copy[key] = not inner
            else:
                copy[key] = inner + 1 if isinstance(inner, int | float) else inner + "x"
            yield copy, (*path, key)


def test_any_other_value_in_the_configuration_is_refused(tmp_path, sound):
    config = json.loads(sound[CONFIG])
    changed = {where: copy for copy, where in changes(config)}
    assert {("temperature",), ("network", "hidden_size"), ("checksums", CONFIG)} <= changed.keys()
    for copy in changed.values():
        write(tmp_path, sound | {CONFIG: json.dumps(copy).encode()}, vouched=False)
        refused(tmp_path, CheckpointError, CONFIG)
    for name in config["checksums"]:
        checksums = {n: c for n, c in config["checksums"].items() if n != name} | {name + "x": "0"}
        copy = config | {"checksums": checksums}
        write(tmp_path, sound | {CONFIG: json.dumps(copy).encode()}, vouched=False)
        refused(tmp_path, CorruptFileError, CONFIG)


def test_a_configuration_in_another_layout_is_the_same(tmp_path, sound):
    config = json.loads(sound[CONFIG])
    again = dict(reversed(config.items()))
    write(tmp_path, sound | {CONFIG: json.dumps(again).encode()}, vouched=False)
    assert load_checkpoint(tmp_path).temperature == config["temperature"]


def test_a_configuration_of_before_it_had_a_checksum_is_loaded(tmp_path, sound):
    write(tmp_path, with_config(sound, temperature=1.25), vouched=False)
    assert load_checkpoint(tmp_path).temperature == 1.25
    update_config(tmp_path, details={"metrics": {10: 1, 9: 2}, "from": ("a", "b")})
    loaded = load_checkpoint(tmp_path)
    assert loaded.details == {"metrics": {"10": 1, "9": 2}, "from": ["a", "b"]}
    assert CONFIG in json.loads((tmp_path / CONFIG).read_text())["checksums"]


class Bomb:
    def __reduce__(self):
        return sys.exit, ("a pickle was executed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_opened(tmp_path, sound, protocol):
    write(tmp_path, sound | {WEIGHTS: pickle.dumps(Bomb(), protocol)})
    refused(tmp_path, CorruptFileError, WEIGHTS, "pickle" if protocol >= 2 else "safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_torch_save(tmp_path, sound, zipped):
    write(tmp_path, sound)
    network = network_of("lstm")
    torch.save(network.state_dict(), tmp_path / WEIGHTS, _use_new_zipfile_serialization=zipped)
    refused(tmp_path, CorruptFileError, WEIGHTS, "pickle")


def retyped(sound, change):
    """Return the files with each tensor changed by ``change(name, tensor)``; None drops it."""
    tensors = safetensors.torch.load(sound[WEIGHTS])
    changed = {name: change(name, tensor) for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
    return sound | {WEIGHTS: safetensors.torch.save(kept)}


BIAS = "output_bias"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda n, t: None if n == BIAS else t, MismatchError, f"'{BIAS}' is missing"),
        (lambda n, t: t[:-1].clone() if n == BIAS else t, MismatchError, f"'{BIAS}' has shape"),
        (lambda n, t: t[None] if n == BIAS else t, MismatchError, f"'{BIAS}' has shape"),
        (lambda n, t: t.long() if n == BIAS else t, MismatchError, f"'{BIAS}'"),
        (lambda n, t: t.to(torch.complex64) if n == BIAS else t, MismatchError, f"'{BIAS}'"),
        (lambda n, t: t * float("nan") if n == BIAS else t, CorruptFileError, f"'{BIAS}'"),
        (lambda n, t: t + float("inf") if n == BIAS else t, CorruptFileError, f"'{BIAS}'"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, sound, change, error, said):
    write(tmp_path, retyped(sound, change))
    refused(tmp_path, error, WEIGHTS, said)


def test_a_tensor_too_many(tmp_path, sound):
    tensors = safetensors.torch.load(sound[WEIGHTS]) | {"extra": torch.zeros(1)}
    write(tmp_path, sound | {WEIGHTS: safetensors.torch.save(tensors)})
    refused(tmp_path, MismatchError, WEIGHTS, "'extra'")


@pytest.mark.parametrize("version", [0, 3, True, "1", None, [1], 10**400])
def test_another_format_version(tmp_path, sound, version):
    write(tmp_path, with_config(sound, format_version=version))
    error = CorruptFileError if version is None else FormatVersionError
    refused(tmp_path, error, CONFIG, "version")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"1", b'"text"', b"null", b"\xff\xfe", b"{}", b"[" * 100_000,
        b'{"format_version": ' + b"1" * 10_000 + b"}", b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_a_configuration_that_is_none(tmp_path, sound, content):
    write(tmp_path, sound | {CONFIG: content}, vouched=False)
    refused(tmp_path, CheckpointError, CONFIG)


@pytest.mark.parametrize(
    "changed",
    [
        {"network": None},
        {"network": []},
        {"network": {}},
        {"checksums": "none"},
        {"details": []},
        {"temperature": None},
        {"temperature": 0},
        {"temperature": 1e-40},
        {"temperature": True},
        {"temperature": float("nan")},
        {"temperature": 10**400},
        {"temperature": "1"},
    ],
)
def test_a_configuration_out_of_bounds(tmp_path, sound, changed):
    write(tmp_path, with_config(sound, **changed), vouched=False)
    refused(tmp_path, CheckpointError, CONFIG)


@pytest.mark.parametrize("field", ["embedding_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("value", [0, -1, 3, 2**31 - 1, 10**30, 1e300, "4", None, [1], True])
def test_sizes_that_are_not_those_of_the_weights(tmp_path, sound, field, value):
    """Refused before anything of that size is made."""
    write(tmp_path, with_network(sound, **{field: value}))
    refused(tmp_path, CheckpointError)


@pytest.mark.parametrize("changed", [{"kind": "gru"}, {"kind": "magic"}, {"tied": False}, {"x": 1}])
def test_another_network(tmp_path, sound, changed):
    write(tmp_path, with_network(sound, **changed))
    refused(tmp_path, CheckpointError)


def test_a_vocabulary_that_does_not_match(tmp_path, sound):
    write(tmp_path, sound | {TOKENIZER: tokenizer_of("subword", 300).to_json().encode()})
    refused(tmp_path, MismatchError, TOKENIZER, "300", "320")


def foreign_tokenizers():
    """Return tokenizers of others, and ours with something changed."""
    ours = json.loads(tokenizer_of("subword").to_json())
    words = json.loads(tokenizer_of("word").to_json())
    bpe = {"</s>": 0, "<s>": 2, "▁the": 1}
    yield "other symbols", Tokenizer(BPE(vocab=bpe, merges=[])).to_str()
    yield "no BOS", Tokenizer(BPE(vocab={"</s>": 0}, merges=[])).to_str()
    yield "empty", Tokenizer(WordLevel()).to_str()
    yield "added tokens", json.dumps(ours | {"added_tokens": [
        {"id": 320, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    ]})  # fmt: skip
    for name, state in (("BPE", ours), ("WordLevel", words)):
        vocab = state["model"]["vocab"]
        last = len(vocab) - 1
        for label, special, token_id in (
            ("huge BOS", "<s>", 2**32 - 1),
            ("hole before BOS", "<s>", last + 5),
            ("EOS behind BOS", "</s>", last + 1),
            ("EOS where BOS is", "</s>", last),
        ):
            changed = state["model"] | {"vocab": vocab | {special: token_id}}
            yield f"{name}: {label}", json.dumps(state | {"model": changed})
    yield "a list", "[]"
    yield "a number", "3"
    yield "deep", "[" * 100_000
    yield "deep objects", '{"model":' * 100_000
    yield "no model", json.dumps(ours | {"model": None})
    yield "Unigram", json.dumps(ours | {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}})


@pytest.mark.parametrize(("name", "text"), [*foreign_tokenizers()], ids=lambda x: x[:20])
def test_a_tokenizer_of_something_else(tmp_path, sound, name, text):
    write(tmp_path, sound | {TOKENIZER: text.encode()})
    refused(tmp_path, CheckpointError, TOKENIZER)


def test_a_tokenizer_that_is_not_utf8(tmp_path, sound):
    write(tmp_path, sound | {TOKENIZER: b"\xff\xfe{}"})
    refused(tmp_path, CorruptFileError, TOKENIZER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def loads_or_is_refused(folder):
    """Load a checkpoint, or return what the refusal says; any other error is the test's failure."""
    try:
        load_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return ", ".join(FILES)


@given(name=st.sampled_from(FILES), content=st.binary(max_size=200), data=st.data())
@bounded(120)
def test_arbitrary_bytes_raise_nothing_but_a_checkpoint_error(
    tmp_path_factory, sound, name, content, data
):
    start = data.draw(st.integers(0, len(sound[name])))
    rest = sound[name][start:] if data.draw(st.booleans()) else b""
    folder = tmp_path_factory.mktemp("odd")
    files = sound | {name: sound[name][:start] + content + rest}
    write(folder, files, vouched=name != CONFIG)
    assert any(file in loads_or_is_refused(folder) for file in FILES)


@given(key=st.sampled_from(["network", "temperature", "checksums", "details"]), value=JSON)
@bounded(80)
def test_arbitrary_configurations_raise_nothing_but_a_checkpoint_error(
    tmp_path_factory, sound, key, value
):
    folder = tmp_path_factory.mktemp("odd")
    write(folder, with_config(sound, **{key: value}), vouched=False)
    assert any(file in loads_or_is_refused(folder) for file in FILES)

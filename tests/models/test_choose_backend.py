"""The backend that a precision stands for."""

import pytest
import torch

from models import native
from models.backends import TorchBackend
from models.backends.choose import choose_backend
from models.errors import BackendUnavailableError
from models.forward import Forward
from tests.models.helpers import model_of

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="auto is float32 on a GPU")


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_float32_is_torch():
    model = choose_backend(model_of("lstm"), "float32", threads=1)
    assert isinstance(model.backend, TorchBackend)
    assert torch.get_num_threads() == 1


@on_cpu
@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_int8_is_native_and_the_default_on_a_cpu(precision):
    model = choose_backend(model_of("lstm"), precision, threads=1)
    assert model.backend.precision == "int8"
    (quick,), (exact,) = (m.compute([Forward([5, 6])]) for m in (model, model_of("lstm")))
    assert quick.log_probs == pytest.approx(exact.log_probs, abs=0.1)


@on_cpu
def test_without_the_library_auto_is_float32_and_int8_an_error(monkeypatch):
    def missing():
        raise BackendUnavailableError("not built")

    monkeypatch.setattr("models.native.load_library", missing)
    monkeypatch.setattr("models.native.backend.load_library", missing)
    assert not native.available()
    assert choose_backend(model_of("gru"), "auto", threads=1).backend.precision == "float32"
    with pytest.raises(BackendUnavailableError):
        choose_backend(model_of("gru"), "int8", threads=1)


def test_the_temperature_stays():
    warm = type(model_of("rnn"))("warm", model_of("rnn").network, model_of("rnn").tokenizer, 3.0)
    for precision in ("float32", "auto"):
        (found,) = choose_backend(warm, precision, threads=1).compute([Forward([5])])
        (exact,) = warm.compute([Forward([5])])
        assert found.log_probs == pytest.approx(exact.log_probs, abs=0.05)

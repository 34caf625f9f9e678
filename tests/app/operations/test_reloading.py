"""A new checkpoint takes the place of a loaded one, and nobody notices but by the answers."""

import asyncio
import gc
import json
import shutil
import signal
import weakref
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.application import create_app
from app.engine.engine import Engine
from app.engine.limits import Limits
from app.keys import new_key
from app.settings import Settings
from models.backends.choose import choose_backend
from models.checkpoint import load_checkpoint
from models.generate import generate
from models.score import score
from tests.app.conftest import SUBWORD, make_checkpoint, wait_until_ready
from tests.app.operations.running import Load, running

KEY, _STORED = new_key("operator", "admin")
LINE = _STORED.line()
USER_KEY, _USER = new_key("phone")
ADMIN = {"authorization": f"Bearer {KEY}"}
BODY = {"text": "we sold a hotel", "model": SUBWORD}
RELOAD = f"/models/{SUBWORD}/reload"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another shape: a Transformer with whole words."""
    folder = tmp_path_factory.mktemp("other") / "checkpoint"
    make_checkpoint(folder, kind="transformer", tokenizer_kind="word", vocab_size=60)
    return folder


@pytest.fixture
def own_models(models_dir: Path, tmp_path: Path) -> Path:
    """A folder of one checkpoint that a test may change."""
    shutil.copytree(models_dir / SUBWORD, tmp_path / "models" / SUBWORD)
    return tmp_path / "models"


@pytest.fixture
def service(own_models: Path):
    """The service, ready, with a key for its operator."""
    keys = f"{LINE},{_USER.line()}"
    app = create_app(Settings(models_dir=own_models, api_keys=keys))
    with TestClient(app, headers=ADMIN) as client:
        wait_until_ready(client)
        yield client


def replace_checkpoint(models: Path, new: Path) -> None:
    """Put a folder in the place of another as an operator would: at once."""
    shutil.rmtree(models / ".new", ignore_errors=True)
    shutil.copytree(new, models / ".new")
    (models / SUBWORD).rename(models / ".old")
    (models / ".new").rename(models / SUBWORD)
    shutil.rmtree(models / ".old")


def answer(service: TestClient) -> float:
    found = service.post("/score", json=BODY)
    assert found.status_code == 200
    return float(found.json()["results"][0]["log_prob"])


def test_a_model_of_another_shape_takes_its_place(service, own_models, other):
    before, first = answer(service), service.get(f"/models/{SUBWORD}").json()
    assert answer(service) == before
    replace_checkpoint(own_models, other)
    assert answer(service) == before  # until it is asked for
    reloaded = service.post(RELOAD, headers=ADMIN)
    assert reloaded.status_code == 200
    assert reloaded.json()["architecture"] == "transformer"
    assert reloaded.json() == service.get(f"/models/{SUBWORD}").json() != first
    assert answer(service) != before
    model = choose_backend(load_checkpoint(other), "auto", threads=1)

    async def alone() -> float:
        engine = Engine(Limits())
        found = await engine.run(model, score(model, BODY["text"]))
        await engine.close()
        return float(found.log_prob)

    assert answer(service) == asyncio.run(alone())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04junk"), "a pickle"),
        (lambda f: (f / "model.safetensors").write_bytes(b"junk"), "truncated or not safetensors"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "checksum"),
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (shutil.rmtree, "not there any more"),
    ],
)
def test_a_bad_one_is_refused_and_the_old_one_stays(service, own_models, damage, reason):
    before = answer(service)
    damage(own_models / SUBWORD)
    refused = service.post(RELOAD, headers=ADMIN)
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert reason in refused.json()["detail"]
    assert answer(service) == before
    assert service.get("/ready").status_code == 200


def test_flipped_bits_are_noticed(service, own_models):
    before = answer(service)
    weights = own_models / SUBWORD / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-10] ^= 1
    weights.write_bytes(content)
    refused = service.post(RELOAD, headers=ADMIN)
    assert refused.status_code == 409
    assert "its checksum is not the one in config.json" in refused.json()["detail"]
    assert answer(service) == before


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
def test_it_takes_a_key(service, headers):
    with TestClient(service.app, headers=headers) as stranger:
        refused = stranger.post(RELOAD)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_it_takes_an_operators_key(service):
    refused = service.post(RELOAD, headers={"authorization": f"Bearer {USER_KEY}"})
    assert refused.status_code == 403
    assert refused.json()["detail"] == "This needs an API key with the role admin."


def test_without_a_key_nobody_may(models_dir):
    with TestClient(create_app(Settings(models_dir=models_dir))) as client:
        wait_until_ready(client)
        assert client.post(RELOAD, headers=ADMIN).status_code == 403


@pytest.mark.parametrize("name", ["nobody", "..", "%2e%2e", ".hidden"])
def test_only_what_is_in_the_folder_can_be_loaded(service, name):
    assert service.post(f"/models/{name}/reload", headers=ADMIN).status_code == 404


def test_one_that_was_broken_or_is_new_is_loaded(service, own_models, other):
    assert service.post("/score", json=BODY | {"model": "new"}).status_code == 404
    shutil.copytree(other, own_models / "new")
    assert service.post("/models/new/reload", headers=ADMIN).status_code == 200
    assert service.post("/score", json=BODY | {"model": "new"}).status_code == 200
    assert service.get("/ready").json()["models"] == ["new", SUBWORD]


def test_counters_never_fall_and_no_series_is_there_twice(service):
    from tests.app.operations.running import samples

    shown = 0.0
    for _ in range(3):
        answer(service)
        found = samples(service.get("/metrics").text)
        assert found["nextword_tokens_total", SUBWORD] > shown
        shown = found["nextword_tokens_total", SUBWORD]
        assert service.post(RELOAD, headers=ADMIN).status_code == 200
        found = samples(service.get("/metrics").text)
        assert found["nextword_tokens_total", SUBWORD] == shown
    assert found["nextword_cache_bytes", SUBWORD] == 0  # the new one has read nothing yet
    assert found["nextword_queue_items", SUBWORD] == 0


def test_what_runs_ends_on_the_old_one_which_is_then_freed(models_dir):
    """Also what a request asks of the old one after it was replaced; and without the collector."""

    async def scenario() -> None:
        model = choose_backend(load_checkpoint(models_dir / SUBWORD), "auto", threads=1)
        freed = weakref.ref(model), weakref.ref(model.network)
        engine = Engine(Limits())
        options = {"max_tokens": 300, "strategy": "sample", "seed": 3, "n": 4}
        expected = await engine.run(model, generate(model, "we", **options))
        running = asyncio.ensure_future(engine.run(model, generate(model, "we", **options)))
        await asyncio.sleep(0.01)
        retiring = asyncio.ensure_future(engine.retire(model))
        await asyncio.sleep(0)
        late = await engine.run(model, score(model, "we sold a hotel"))
        assert (await running).results == expected.results
        await retiring
        assert [name for name, _ in engine.stats()] == [model.name]
        again = await engine.run(model, score(model, "we sold a hotel"))
        assert again.log_prob == late.log_prob
        steps = dict(engine.stats())[model.name].steps
        assert steps > 0
        del running, retiring
        for _ in range(500):
            if not engine._workers:
                break
            await asyncio.sleep(0.01)
        assert dict(engine.stats())[model.name].steps == steps
        del model
        await asyncio.sleep(0.05)
        assert [reference() for reference in freed] == [None, None]
        await engine.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


@pytest.mark.slow
def test_a_loop_of_reloads_under_load_fails_nothing_and_memory_stays_flat(
    own_models, other, tmp_path
):
    with running(own_models, tmp_path, key=KEY, API_KEYS=LINE) as service:
        service.wait_ready()
        resident, threads = [], []
        body = {"text": "we", "max_tokens": 40, "strategy": "sample", "seed": 1, "n": 2}
        with (
            Load(service, 3, BODY) as scores,
            Load(service, 2, body, "/generate") as texts,
            service.client() as operator,
        ):
            for i in range(36):
                if i in (5, 15):
                    replace_checkpoint(own_models, other)
                assert operator.post(RELOAD, headers=ADMIN).status_code == 200
                if i >= 12:
                    resident.append(service.metrics()["process_resident_memory_bytes",])
                    threads.append(service.threads())
        for load in (scores, texts):
            assert set(load.statuses) == {200}, (load.statuses, load.problems[:3])
            assert load.statuses[200] > 36
        half = len(resident) // 2
        early, late = sum(resident[:half]) / half, sum(resident[half:]) / half
        assert late < 1.03 * early, [round(r / 1e6) for r in resident]
        assert max(threads[half:]) <= max(threads[:half]) + 2, threads
        assert service.end() == 0


@pytest.mark.slow
def test_sighup_reloads_all_workers(own_models, other, tmp_path):
    with running(own_models, tmp_path, "--workers", "2", key=KEY, API_KEYS=LINE) as service:
        service.wait_ready()
        service.wait(lambda: service.metrics()["nextword_workers",] == 2)

        def architectures() -> set[str]:
            return {service.get(f"/models/{SUBWORD}").json()["architecture"] for _ in range(20)}

        assert architectures() == {"lstm"}
        replace_checkpoint(own_models, other)
        with Load(service, 4, BODY) as load:
            service.process.send_signal(signal.SIGHUP)
            service.wait(lambda: architectures() == {"transformer"})
        assert set(load.statuses) == {200}, load.problems[:3]
        lines = [json.loads(line) for line in service.log.read_text().splitlines()]
        assert len([line for line in lines if line["event"] == "model reloaded"]) == 2

        # Over HTTP one worker is asked, and both have it when it answers.
        (own_models / SUBWORD / "config.json").write_text("{")
        with service.client() as operator:
            assert operator.post(RELOAD, headers=ADMIN).status_code == 409
        make_checkpoint(other.parent / "third", kind="gru", tokenizer_kind="word", vocab_size=60)
        replace_checkpoint(own_models, other.parent / "third")
        with service.client() as operator:
            assert operator.post(RELOAD, headers=ADMIN).status_code == 200
        assert architectures() == {"gru"}
        assert service.end() == 0

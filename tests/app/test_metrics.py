"""What Prometheus is told."""

import asyncio
import time

import pytest
from fastapi.testclient import TestClient
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from app.application import create_app
from app.metrics import BUCKETS, MEDIA_TYPE, Metrics
from app.settings import Settings
from tests.app.caller import Caller, ready_app
from tests.app.conftest import SUBWORD

REQUESTS = "nextword_http_requests_total"
SECONDS = "nextword_http_request_duration_seconds"
IN_PROGRESS = "nextword_http_requests_in_progress"


def samples(text: str) -> dict[tuple, float]:
    """The measurements by name and label values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def service(tmp_path):
    """A service of its own, with no model."""
    with TestClient(create_app(Settings(models_dir=tmp_path))) as client:
        yield client


def test_requests_are_counted_by_route_method_and_status(service: TestClient):
    for _ in range(3):
        service.get("/health")
    service.post("/health")
    service.get("/models/one")
    service.get("/models/two")
    service.post("/next-word", content=b"{}")
    response = service.get("/metrics")
    assert response.headers["content-type"] == MEDIA_TYPE
    found = samples(response.text)
    assert found[REQUESTS, "GET", "/health", "200"] == 3
    assert found[REQUESTS, "POST", "/health", "405"] == 1
    assert found[REQUESTS, "GET", "/models/{name}", "503"] == 2
    assert found[REQUESTS, "POST", "/next-word", "415"] == 1
    assert found[SECONDS + "_count", "/health"] == 4
    assert found[SECONDS + "_bucket", "+Inf", "/health"] == 4
    assert 0 < found[SECONDS + "_sum", "/health"] < 10
    assert found["process_resident_memory_bytes",] > 1e6


def test_no_client_makes_up_a_label(service: TestClient):
    service.get("/health")
    before = len(samples(service.get("/metrics").text))
    for i in range(20):
        service.get(f"/nothing/{i}")
        service.request(f"METHOD{i}", "/health")
        service.get(f"/models/{i}", headers={"x-request-id": f"id{i}", "host": f"host{i}"})
    found = samples(service.get("/metrics").text)
    assert found[REQUESTS, "GET", "other", "404"] == 20
    assert found[REQUESTS, "other", "/health", "405"] == 20
    # Three more counters, of 405, 404 and 503, that of /metrics, and three more histograms.
    assert len(found) - before == 4 + 3 * (len(BUCKETS) + 3)


def test_latencies_fall_into_buckets():
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.0006, 0.3, 10, 11):
        metrics.observe("/score", "POST", 200, seconds)
    found = samples(metrics.render().decode())
    counts = [found[SECONDS + "_bucket", str(float(bound)), "/score"] for bound in BUCKETS]
    assert counts == [2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5]
    assert (BUCKETS[0], BUCKETS[-1]) == (0.0005, 10)
    assert found[SECONDS + "_bucket", "+Inf", "/score"] == found[SECONDS + "_count", "/score"] == 6
    assert found[SECONDS + "_sum", "/score"] == pytest.approx(21.3012)


def test_two_applications_in_a_process_count_for_themselves(service: TestClient, tmp_path):
    service.get("/health")
    with TestClient(create_app(Settings(models_dir=tmp_path))) as other:
        assert (REQUESTS, "GET", "/health", "200") not in samples(other.get("/metrics").text)
    assert samples(service.get("/metrics").text)[REQUESTS, "GET", "/health", "200"] == 1


def test_what_is_watched_is_collected_when_somebody_asks(service: TestClient):
    asked: list[int] = []

    def collect():
        asked.append(1)
        yield GaugeMetricFamily("nextword_queue_depth", "Waiting.", len(asked))

    service.app.state.metrics.watch(collect)
    service.get("/health")
    assert asked == []
    for i in (1, 2):
        assert samples(service.get("/metrics").text)["nextword_queue_depth",] == i


def test_the_engine_tells_what_it_does(client: TestClient):
    body = {"text": "we sold a hotel", "model": SUBWORD}
    before = samples(client.get("/metrics").text).get(("nextword_tokens_total", SUBWORD), 0)
    assert client.post("/score", json=body).status_code == 200
    found = samples(client.get("/metrics").text)
    assert found["nextword_tokens_total", SUBWORD] > before
    assert found["nextword_queue_items", SUBWORD] == 0


def test_requests_in_progress(settings: Settings):
    async def scenario() -> None:
        async with asyncio.timeout(20), ready_app(settings) as app:

            def in_progress() -> float:
                return samples(app.state.metrics.render().decode())[IN_PROGRESS,]

            assert in_progress() == 0
            body = {"text": "we", "strategy": "sample", "max_tokens": 1000, "n": 16}
            caller = Caller(app, "/generate", body | {"stream": True})
            await caller.chunks.get()
            assert in_progress() == 1
            caller.leave()
            await caller.call
            assert in_progress() == 0

    asyncio.run(scenario())


def test_counting_takes_next_to_no_time():
    metrics = Metrics()
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(100):
            metrics.observe("/next-word", "POST", 200, 0.002)
        best = min(best, (time.perf_counter() - started) / 100)
    assert best < 10e-6

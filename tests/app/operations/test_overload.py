"""More than the queue holds."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.overload import ITEMS, TIMES, Overload, overload_requests
from tests.app.operations.running import running


@pytest.mark.slow
def test_four_times_what_fits_gives_answers_in_time_and_429(models_dir: Path, tmp_path: Path):
    queue = 64
    settings = {"QUEUE_ITEMS": str(queue), "RUNNING_ITEMS": "32", "CACHE_MEGABYTES": "1"}
    with running(models_dir, tmp_path, **settings) as service:
        service.wait_ready()
        found = Overload()
        work = found.run(
            service.port,
            [service.process.pid],
            overload_requests(20),
            clients=TIMES * queue // ITEMS,
            seconds=8,
        )
        asyncio.run(work)
        # In so short a time memory is not flat yet, but far from running away.
        assert found.faults(most_seconds=10, most_growth=0.1) == []
        assert found.statuses.keys() == {200, 429}
        metrics = service.metrics()
        rejected = sum(n for key, n in metrics.items() if key[0] == "nextword_rejected_total")
        assert rejected == found.statuses[429]
        assert found.health
        # Afterwards there is room again.
        with service.client() as client:
            assert client.post("/score", json={"text": "we"}).status_code == 200


@pytest.mark.parametrize(
    ("statuses", "latencies", "growing", "fault"),
    [
        ({200: 9, 429: 9, 500: 1}, [0.1], 0, "1 answers with status 500"),
        ({200: 9, 429: 9, 0: 2}, [0.1], 0, "2 answers with status none"),
        ({200: 9, 429: 9}, [11.0], 0, "p99"),
        ({200: 9, 429: 9}, [0.1], 5, "memory grew"),
        ({200: 9}, [0.1], 0, "turned away"),
        ({429: 9}, [], 0, "nobody was answered"),
    ],
)
def test_what_is_not_as_it_has_to_be_is_said(statuses, latencies, growing, fault):
    found = Overload(latencies=latencies)
    found.statuses.update(statuses)
    for second in range(20):
        found.memory.seconds.append(second)
        found.memory.megabytes.append(100 + growing * second)
    (said,) = found.faults(most_seconds=10, most_growth=0.02)
    assert fault in said

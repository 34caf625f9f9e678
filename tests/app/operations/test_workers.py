"""Several processes behind one port."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.settings import Settings
from app.threads import available_threads
from tests.app.conftest import SUBWORD
from tests.app.operations.running import ROOT, Load, Running, running

REQUESTS = "nextword_http_requests_total"
BODY = {"text": "we sold a hotel", "model": SUBWORD}


def both_ready(service: Running) -> None:
    service.wait_ready()
    service.wait(lambda: service.metrics()["nextword_workers",] == 2)


def test_one_that_is_killed_loses_only_its_own_and_comes_back(models_dir: Path, tmp_path: Path):
    with running(models_dir, tmp_path, "--workers", "2") as service:
        both_ready(service)
        before = service.workers()
        assert len(before) == 2
        with Load(service, 6, BODY) as load:
            load.wait_for(100)
            counted = service.metrics()[REQUESTS, "POST", "/score", "200"]
            os.kill(before[0], signal.SIGKILL)
            service.wait(lambda: len(set(service.workers()) - set(before)) == 1)
            load.wait_for(100)
            both_ready(service)
            load.wait_for(100)
        # Of six clients that wait for one answer each, those of the dead lose that one.
        lost = sum(load.statuses.values()) - load.statuses[200]
        assert lost <= 6, (load.statuses, load.problems)
        assert load.statuses[200] >= 300
        assert before[1] in service.workers()
        found = service.metrics()
        assert found["nextword_worker_restarts_total",] == 1
        assert counted <= found[REQUESTS, "POST", "/score", "200"] <= load.statuses[200] + lost
        assert service.end() == 0
        assert service.workers_gone(before)


def test_clients_that_stay_are_shared_out(models_dir: Path, tmp_path: Path):
    with running(models_dir, tmp_path, "--workers", "2") as service, ExitStack() as stack:
        both_ready(service)
        for _ in range(12):
            client = stack.enter_context(service.client())
            assert client.post("/score", json=BODY).status_code == 200
        # As many each where both are awake; a machine may have other things to do.
        assert min(map(service.connections, service.workers())) >= 2


def test_a_scrape_is_the_sum_over_all(models_dir: Path, tmp_path: Path):
    with running(models_dir, tmp_path, "--workers", "2") as service:
        both_ready(service)
        # Connections of their own, so that each worker gets some.
        for _ in range(40):
            with service.client() as client:
                assert client.post("/score", json=BODY).status_code == 200
        for _ in range(5):  # whoever is asked
            found = service.metrics()
            assert found[REQUESTS, "POST", "/score", "200"] == 40
            assert found["nextword_http_request_duration_seconds_count", "/score"] == 40
            assert found["nextword_http_request_duration_seconds_bucket", "+Inf", "/score"] == 40
            assert found["nextword_http_requests_in_progress",] >= 1
        # Resident memory is that of both; the number of open files that each may have is not.
        with running(models_dir, tmp_path, "--workers", "1") as single:
            single.wait_ready()
            alone = single.metrics()
        assert (
            found["process_resident_memory_bytes",] > 1.5 * alone["process_resident_memory_bytes",]
        )
        assert found["process_max_fds",] == alone["process_max_fds",]
        # What was counted by one that is killed still counts, and what is shown never falls.
        for _ in range(2):
            os.kill(service.workers()[0], signal.SIGKILL)
            service.wait(lambda: service.metrics()["nextword_workers",] == 1)
            assert service.metrics()[REQUESTS, "POST", "/score", "200"] == 40
            service.wait(lambda: service.metrics()["nextword_workers",] == 2)
            assert service.metrics()[REQUESTS, "POST", "/score", "200"] == 40
        assert service.end() == 0


def test_all_end_in_good_order_within_the_limit(models_dir: Path, tmp_path: Path):
    settings = {"SHUTDOWN_SECONDS": "2", "QUEUE_ITEMS": "100000"}
    settings |= {"MAX_TOKENS": "1000000", "MAX_CONTINUATIONS": "2000"}
    with running(models_dir, tmp_path, "--workers", "2", **settings) as service:
        both_ready(service)
        workers = service.workers()
        body = {"text": "we", "strategy": "sample", "n": 2000, "max_tokens": 1_000_000}
        body |= {"temperature": 100}
        answers: list = []

        def ask() -> None:
            with service.client() as client:
                answers.append(client.post("/generate", json=body))

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        time.sleep(1)
        started = time.monotonic()
        assert service.end() == 0
        assert time.monotonic() - started < 15
        for thread in asking:
            thread.join(20)
        assert [answer.status_code for answer in answers] == [503] * 4
        assert service.workers_gone(workers)


def test_workers_end_when_their_parent_is_killed(models_dir: Path, tmp_path: Path):
    with running(models_dir, tmp_path, "--workers", "2") as service:
        both_ready(service)
        workers = service.workers()
        service.process.kill()
        service.process.wait(20)
        deadline = time.monotonic() + 60
        while not service.workers_gone(workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert service.workers_gone(workers)


def test_a_port_that_is_taken_is_an_error(models_dir: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ("--workers", "2", "--port", str(taken.getsockname()[1]))
        with running(models_dir, tmp_path, *options) as service:
            assert service.process.wait(120) == 2
            assert "Address already in use" in service.log.read_text()


SUPERVISED = """
import os, sys, time
from app.workers import Supervisor

def work(siblings, sockets):
    fails = sys.argv[1] == "all" or siblings._index
    if not fails:
        siblings._slots.set_alive(siblings._index, True)
        time.sleep(1)
        os.kill(os.getppid(), 15)
        time.sleep(60)
    raise SystemExit(3)

Supervisor(2, work, shutdown_seconds=5).run([])
"""


@pytest.mark.parametrize(("fail", "status"), [("all", 1), ("one", 0)])
def test_it_ends_where_no_worker_can_serve_and_goes_on_where_one_does(fail: str, status: int):
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISED, fail],
        env={"PYTHONPATH": ":".join(sys.path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert ("no worker can serve" in done.stdout) == bool(status)
    assert done.stdout.count("worker started") >= 2


@pytest.mark.parametrize(
    ("threads", "workers", "each"), [(8, 2, 4), (3, 2, 1), (1, 4, 1), (6, 1, 6)]
)
def test_workers_share_the_threads(threads: int, workers: int, each: int):
    assert Settings(threads=threads, workers=workers).most_threads() == each


def test_workers_share_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert available_threads(tmp_path / "missing", workers=2) == 4
    assert available_threads(tmp_path / "missing") == 2

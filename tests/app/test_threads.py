"""Processors: the container's quota, the process' own, and those it shares them with."""

import os

import pytest

from app.threads import available_threads

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "most"),
    [("max 100000", MINE), ("50000 100000", 1), ("150000 100000", 2), ("nonsense", MINE)],
)
def test_no_more_than_the_quota_and_at_least_one(tmp_path, monkeypatch, quota, most):
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_threads(tmp_path / "cpu.max") == min(MINE, most)


@pytest.mark.parametrize(("workers", "threads"), [("1", 4), ("2", 2), ("3", 1), ("9", 1), ("x", 4)])
def test_processes_share(tmp_path, monkeypatch, workers, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    assert available_threads(tmp_path / "missing") == threads

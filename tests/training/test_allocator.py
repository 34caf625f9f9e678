import os
import sys

import pytest

from training import allocator
from training.allocator import restart_tuned, tuned_environment


def test_settings_are_added_once():
    tuned = tuned_environment({"HOME": "/home/me"})
    assert tuned is not None
    assert tuned["HOME"] == "/home/me"
    assert tuned["MALLOC_MMAP_MAX_"] == "0"
    assert tuned_environment(tuned) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"MALLOC_ARENA_MAX": "4"},
        {"MALLOC_TRIM_THRESHOLD_": "1"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so"},
    ],
)
def test_what_a_user_chose_stays(environ):
    assert tuned_environment(environ) is None


def test_tunables_of_other_things_do_not_matter():
    assert tuned_environment({"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}) is not None


def test_the_process_is_replaced_by_itself(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args))
    monkeypatch.setattr(allocator, "_is_glibc", lambda: True)
    restart_tuned({}, ["python3", "-X", "dev", "nextword", "train"])
    ((path, arguments, environ),) = calls
    assert path == sys.executable
    assert arguments == [sys.executable, "-X", "dev", "nextword", "train"]
    restart_tuned(environ, arguments)
    assert len(calls) == 1


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *args: pytest.fail("replaced"))
    monkeypatch.setattr(os, "confstr", lambda name: (_ for _ in ()).throw(ValueError(name)))
    restart_tuned({}, ["python3"])

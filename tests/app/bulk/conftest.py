"""A served model, for those who come over a socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.test_server import served, wait_for


@pytest.fixture(scope="session")
def service(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """The service as a process, and an HTTP client of it."""
    with served(models_dir, tmp_path_factory.mktemp("served")) as (process, client, _):
        wait_for(client, process, "/ready")
        yield process, client


@pytest.fixture(scope="session")
def url(service: tuple) -> str:
    """Where it listens."""
    return str(service[1].base_url).rstrip("/")

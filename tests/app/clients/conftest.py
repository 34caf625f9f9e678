"""The service as a process of its own, for clients that know nothing of it."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.app.test_server import served, wait_for


@pytest.fixture(scope="package")
def address(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where two tiny models are served."""
    with served(models_dir, tmp_path_factory.mktemp("served")) as (process, client, _):
        wait_for(client, process, "/ready")
        yield str(client.base_url).rstrip("/")


@pytest.fixture(scope="package")
def ask(address: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(
        base_url=f"{address}/v1", api_key="none", timeout=60, max_retries=0
    ) as client:
        yield client

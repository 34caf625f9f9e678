"""A real service, and waits that take no time."""

import random

import pytest

from tests.app.bulk.conftest import service, url

__all__ = ["service", "url", "waits"]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a client waited between tries, without waiting."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(
        "app.client.blocking._pause", lambda seconds, _: waited.append(seconds) or False
    )
    monkeypatch.setattr("app.client.awaited.asyncio.sleep", sleep)
    random.seed(3)
    return waited

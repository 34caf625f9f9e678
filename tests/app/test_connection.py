"""Work for a client that may go before it is done."""

import asyncio

import pytest
from fastapi import Request

from app.connection import CONNECTION, peer, while_connected
from app.errors import ClientGoneError


class Connection:
    """A client that goes after a while, and whether anybody looks.

    It is heard to go by whoever watches it; or, of our own server, tells it.
    """

    leave = None

    def __init__(self, seconds: float, *, tells: bool = False) -> None:
        self.seconds, self.watched = seconds, 0
        scope = {"type": "http", "client": ("10.0.0.7", 1234)}
        if tells:
            self.lost = asyncio.Event()
            scope[CONNECTION] = self
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._go)
            else:
                self._go()
        self.request = Request(scope, self._receive)

    def _go(self) -> None:
        self.lost.set()
        if self.leave is not None:
            self.leave()

    async def _receive(self) -> dict[str, str]:
        self.watched += 1
        await asyncio.sleep(self.seconds)
        return {"type": "http.disconnect"}


async def work(seconds: float, ended: list[str]) -> str:
    try:
        await asyncio.sleep(seconds)
        return "done"
    finally:
        ended.append("ended")


def run(seconds: float, leaves: float, *, tells: bool = False) -> tuple[str, int]:
    async def scenario() -> tuple[str, int]:
        connection = Connection(leaves, tells=tells)
        ended: list[str] = []
        async with asyncio.timeout(20):
            try:
                result = await while_connected(connection.request, work(seconds, ended))
            except ClientGoneError:
                result = "gone"
                # Nothing is left of the cancelling: what comes behind can wait as ever.
                assert asyncio.current_task().cancelling() == 0
            assert ended == ["ended"]
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1  # nobody watches any more
            assert connection.leave is None
        return result, connection.watched

    return asyncio.run(scenario())


def test_nobody_watches_the_client_of_quick_work():
    assert run(0, leaves=0) == ("done", 0)


def test_work_ends_with_its_client():
    assert run(30, leaves=0.01) == ("gone", 1)
    assert run(30, leaves=0) == ("gone", 1)


def test_work_ends_by_itself_while_its_client_is_watched():
    assert run(0.1, leaves=30) == ("done", 1)


def test_a_connection_that_tells_is_not_watched():
    assert run(30, leaves=0.01, tells=True) == ("gone", 0)
    assert run(30, leaves=0, tells=True) == ("gone", 0)
    assert run(0.1, leaves=30, tells=True) == ("done", 0)


def test_a_client_that_had_gone_before_leaves_nothing_behind():
    async def at_once() -> str:
        return "done"

    async def scenario() -> str:
        result = await while_connected(Connection(0, tells=True).request, at_once())
        await asyncio.sleep(0)  # where a cancellation that is left would be raised
        return result

    assert asyncio.run(scenario()) == "done"


def test_what_the_work_raises_arrives():
    async def failing() -> None:
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        asyncio.run(while_connected(Connection(30).request, failing()))


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("leaves", [0.05, 30])
def test_being_cancelled_is_no_leaving(leaves, tells):
    """The service cancels a request; whether its client goes at that moment makes no difference."""

    async def scenario() -> None:
        ended: list[str] = []
        request = Connection(leaves, tells=tells).request
        task = asyncio.ensure_future(while_connected(request, work(30, ended)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["ended"]

    asyncio.run(scenario())


def test_a_client_is_known_by_its_address():
    assert peer(Connection(0).request) == "10.0.0.7"
    assert peer(Request({"type": "http", "client": None})) == ""


@pytest.mark.parametrize(
    ("host", "known_as"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("[unknown]:1", "[unknown]:1"),
        ("", ""),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(host, known_as):
    assert peer(Request({"type": "http", "client": (host, 1)})) == known_as

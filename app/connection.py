"""What is known of a client while it waits, and what has to end when it goes."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Protocol, TypeVar

from fastapi import Request
from starlette.types import Scope

from app.errors import ClientGoneError

R = TypeVar("R")

# Most answers are there before this, and then nobody has watched the connection, which would cost
# a task for each request; work that takes longer is stopped this much later than it could be.
_PATIENCE = 0.02  # seconds

CONNECTION = "nextword.connection"  # the scope's key; only our own server has it


class Connection(Protocol):
    """What a request came over.

    Attributes:
        lost: It is closed, whoever closed it.
        leave: To be called when that happens, if anything; one answer at a time is made for it.
    """

    lost: asyncio.Event
    leave: Callable[[], None] | None

    def cut_off(self) -> None:
        """Close it, whatever is still to be said on it."""


def peer(request: Request) -> str:
    """Return who asks, by which clients take turns: the API key's name, or else the address."""
    client: str | None = request.scope.get("state", {}).get("client")
    return address(request.scope) if client is None else client


def address(scope: Scope) -> str:
    """Return the address that a request came from, without the port; of IPv6, its /64 network.

    One household has such a network, and with it 2^64 addresses to come from.
    """
    client = scope.get("client")
    if client is None:
        return ""
    host: str = client[0]
    return _network(host) if ":" in host else host


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    try:
        found = IPv6Address(host)
    except ValueError:  # what a proxy says need not be an address
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


async def while_connected(request: Request, work: Awaitable[R]) -> R:
    """Return the result of ``work``, which is cancelled if the client goes before it is there.

    Raises:
        ClientGoneError: The client has gone. The request's body must have been read before.
    """
    answering = asyncio.current_task()
    assert answering is not None
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        answering.cancel()

    connection: Connection | None = request.scope.get(CONNECTION)
    forget = _listen(request, leave) if connection is None else _hear(connection, leave)
    try:
        return await work
    except asyncio.CancelledError:
        # By `leave`, unless whoever runs this request has cancelled it too, or alone.
        if gone and not answering.uncancel():
            raise ClientGoneError("The client has gone.") from None
        raise
    finally:
        forget()


def _hear(connection: Connection, leave: Callable[[], None]) -> Callable[[], None]:
    """Call ``leave`` when the connection is lost; returns what ends that."""
    connection.leave = leave
    lost = asyncio.get_running_loop().call_soon(leave) if connection.lost.is_set() else None

    def forget() -> None:
        connection.leave = None
        if lost is not None:
            lost.cancel()

    return forget


def _listen(request: Request, leave: Callable[[], None]) -> Callable[[], None]:
    """Call ``leave`` when the client is heard to go, by another server than ours."""
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        leave()

    def begin() -> None:
        nonlocal watching
        watching = asyncio.ensure_future(watch())

    patience = asyncio.get_running_loop().call_later(_PATIENCE, begin)

    def forget() -> None:
        patience.cancel()
        if watching is not None:
            watching.cancel()

    return forget

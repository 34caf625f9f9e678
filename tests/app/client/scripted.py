"""Services that answer what they are told to."""

from collections.abc import Callable, Iterator

import httpx

STATUS = {"status": "ready", "models": ["m"]}
Script = Iterator[httpx.Response | Exception]


def scripted(*answers: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    script: Script = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        following = next(script)
        if isinstance(following, Exception):
            raise following
        return following

    return answer


def problem(status: int, **headers: str) -> httpx.Response:
    body = {"title": "Busy", "status": status, "detail": "Full.", "errors": [], "request_id": "r"}
    return httpx.Response(
        status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )

"""The short way from a request to its endpoint, and back.

FastAPI describes these routes, but does not run them: for endpoints that take a body and nothing
else, solving dependencies, three exit stacks and six layers of middleware do nothing but cost four
times what reading, checking, answering and writing do together. What a request must be and how a
fault is answered is the same on both ways, for one handler serves both.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import HANDLED, invalid, problem_response
from app.wire import read_json

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoutes:
    """Takes requests straight to the routes that need no more, and all others to ``app``."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        """Stand in front of ``app``, which has these routes too."""
        self._app = app
        self._routes = {
            (method, route.path): (route, route.direct)
            for route in routes
            if isinstance(route, DirectRoute) and route.direct is not None
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of HTTP."""
        # Anything unusual, a path behind a prefix or a method that is not allowed, is not found.
        found = self._routes.get((scope["method"], scope["path"]))
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handle = found
        try:
            response = await handle(Request(scope, receive, send))
        except HANDLED as error:
            response = problem_response(error, scope["state"]["request_id"])
        await response(scope, receive, send)


class DirectRoute(APIRoute):
    """A route whose body, if it takes one, is read by `read_json`.

    Attributes:
        direct: Answers a request; None for an endpoint with parameters other than its body and
            the request, whose values FastAPI finds.
    """

    max_body_bytes = 0
    direct: Handler | None = None

    def get_route_handler(self) -> Handler:
        """Return what FastAPI calls for a request that came its way."""
        handle = self._handler()
        if handle is None:
            return super().get_route_handler()
        self.direct = handle
        return handle

    def _handler(self) -> Handler | None:
        needs = self.dependant
        if (
            needs.dependencies
            or needs.path_params
            or needs.query_params
            or needs.header_params
            or needs.cookie_params
        ):
            return None
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint
        request_name = needs.request_param_name

        if self.body_field is None:

            async def handle_bare(request: Request) -> Response:
                return await endpoint(**({request_name: request} if request_name else {}))

            return handle_bare

        body_name, max_body_bytes = self.body_field.name, self.max_body_bytes
        schema: Any = self.body_field.field_info.annotation
        validate = TypeAdapter(schema).validator.validate_python

        async def handle(request: Request) -> Response:
            value = await read_json(request, max_body_bytes)
            try:
                arguments = {body_name: validate(value)}
            except ValidationError as error:
                raise invalid(error, "body") from None
            if request_name:
                arguments[request_name] = request
            return await endpoint(**arguments)

        return handle


def direct_route(max_body_bytes: int) -> type[DirectRoute]:
    """Return the class of routes that read bodies of at most this many bytes."""
    return type("DirectRoute", (DirectRoute,), {"max_body_bytes": max_body_bytes})

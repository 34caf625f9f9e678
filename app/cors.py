"""Which web pages may ask the service from a browser (CORS)."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_DAY = 86_400  # seconds for which a browser may remember the answer to its first question


def allow_origins(app: ASGIApp, origins: str) -> ASGIApp:
    """Return ``app`` for pages of these origins, separated by commas; unchanged for none."""
    allowed = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    if not allowed:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # clients send more than their keys: OpenAI's tells what it runs on
        expose_headers=["X-Request-ID", "Retry-After"],
        max_age=_DAY,
    )

"""Who may do what only an operator may."""

from hmac import compare_digest

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.settings import Settings


def require_admin(request: Request, settings: Settings) -> None:
    """Return if the request carries the operator's key, ``Bearer`` or ``X-API-Key``.

    Raises:
        HTTPException: 401 without the key; 403 where no key is set, so that nobody has it.
    """
    if settings.admin_key is None:
        raise HTTPException(403, "No admin key is set (NEXTWORD_ADMIN_KEY); SIGHUP reloads too.")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = request.headers.get("x-api-key", "")
    if not compare_digest(given.strip().encode(), settings.admin_key.get_secret_value().encode()):
        raise HTTPException(401, "This takes the admin key.", {"WWW-Authenticate": "Bearer"})

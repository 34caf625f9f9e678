"""What training needs beyond serving."""

from importlib.util import find_spec

from models.errors import NextwordError


class MissingExtraError(NextwordError):
    """A package is not installed that only training and pictures need."""


def require(*modules: str) -> None:
    """Raise MissingExtraError with the way out, unless all ``modules`` are installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"{' and '.join(missing)} not installed: pip install {' '.join(missing)}"
        )

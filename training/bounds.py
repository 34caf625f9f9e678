"""Checks of settings, for their dataclasses to call; each names the setting and its value."""


def positive(owner: object, *names: str) -> None:
    """Raise ValueError unless the named settings are above 0."""
    for name in names:
        value = getattr(owner, name)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, not {value!r}")


def not_negative(owner: object, *names: str) -> None:
    """Raise ValueError unless the named settings are at least 0."""
    for name in names:
        value = getattr(owner, name)
        if value < 0:
            raise ValueError(f"{name} must be at least 0, not {value!r}")


def below_one(owner: object, *names: str) -> None:
    """Raise ValueError unless the named settings, where they are set, are from 0 to below 1."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")


def share(owner: object, *names: str) -> None:
    """Raise ValueError unless the named settings are from 0 to 1."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, not {value!r}")

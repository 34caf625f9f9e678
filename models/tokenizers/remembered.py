"""What is found out about a tokenizer again and again is remembered, for as long as it lives."""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def remembered(size: int) -> Callable[[F], F]:
    """Remember the last ``size`` answers of a function of a tokenizer, in that tokenizer.

    `functools.lru_cache` on the function itself would keep tokenizers that nobody uses any more.
    """

    def wrap(function: F) -> F:
        name = f"_{function.__module__}.{function.__qualname__}"

        @wraps(function)
        def ask(tokenizer: object, *arguments: Any, **keywords: Any) -> Any:
            cached = vars(tokenizer).get(name)
            if cached is None:
                cached = lru_cache(size)(partial(function, tokenizer))
                cached = vars(tokenizer).setdefault(name, cached)
            return cached(*arguments, **keywords)

        return cast(F, ask)

    return wrap

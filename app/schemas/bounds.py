"""Bounds that settings decide, in schemas that are written once.

A schema says which setting bounds a field; a route says whose settings::

    top_k: Annotated[int, Limit(Le, "max_top_k")] = 10          # in the schema

    @router.post("/next-word")
    @Bounds(settings).apply
    async def post_next_word(query: NextWordRequest) -> Response: ...

so that validation and the published OpenAPI have one source, and two applications in a process can
differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from annotated_types import Le, MaxLen
from pydantic import BaseModel, create_model

from app.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Limit:
    """A bound that the setting of this name decides; without `Bounds` it does nothing."""

    kind: type[Le] | type[MaxLen]
    setting: str


@dataclass(frozen=True)
class Bounds:
    """Puts the settings' numbers in the place of each `Limit`."""

    settings: Settings

    def apply(self, endpoint: F) -> F:
        """Let ``endpoint`` take bounded schemas, which are subclasses of those it names."""
        endpoint.__annotations__ = {
            name: self.bind(annotation) for name, annotation in endpoint.__annotations__.items()
        }
        return endpoint

    def bind(self, annotation: Any) -> Any:
        """Return a type with all its limits bound."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            base, *metadata = arguments
            return Annotated[(self.bind(base), *map(self._number, metadata))]
        if origin is list:
            return list[self.bind(arguments[0])]  # type: ignore[misc]
        if origin in (Union, UnionType):
            return Union[tuple(map(self.bind, arguments))]  # noqa: UP007
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._bind_model(annotation)
        return annotation

    def _bind_model(self, model: type[BaseModel]) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            annotation = self.bind(field.annotation)
            # The field keeps all that it says itself; only the numbers are new.
            for limit in field.metadata:
                if isinstance(limit, Limit):
                    annotation = Annotated[annotation, self._number(limit)]
            fields[name] = (annotation, field)
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)

    def _number(self, constraint: Any) -> Any:
        if isinstance(constraint, Limit):
            return constraint.kind(getattr(self.settings, constraint.setting))
        return constraint

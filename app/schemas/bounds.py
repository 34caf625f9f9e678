"""Bounds that settings decide, in schemas that are written once.

A schema says which setting bounds a field; a route says whose settings::

    top_k: Annotated[int, Limit(Le, "max_top_k")] = 10          # in the schema
    query: Annotated[NextWordRequest, Bounds(settings)]         # in the route

so that validation and the published OpenAPI are of one source, and two applications in a process
can differ.
"""

from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Le, MaxLen
from pydantic import BaseModel, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from app.settings import Settings


@dataclass(frozen=True)
class Limit:
    """A bound that the setting of this name decides; without `Bounds` it does nothing."""

    kind: type[Le] | type[MaxLen]
    setting: str


@dataclass(frozen=True)
class Bounds:
    """Puts the settings' numbers in the place of each `Limit` of the annotated schema."""

    settings: Settings

    def __get_pydantic_core_schema__(
        self, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate against the bounded schema instead."""
        return handler.generate_schema(self._bind(source))

    def _bind(self, annotation: Any) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            base, *metadata = arguments
            return Annotated[(self._bind(base), *map(self._number, metadata))]
        if origin is list:
            return list[self._bind(arguments[0])]  # type: ignore[misc]
        if origin in (Union, UnionType):
            return Union[tuple(map(self._bind, arguments))]  # noqa: UP007
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._bind_model(annotation)
        return annotation

    def _bind_model(self, model: type[BaseModel]) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            annotation = self._bind(field.annotation)
            # The field keeps all that it says itself; only the numbers are new.
            for limit in filter(lambda m: isinstance(m, Limit), field.metadata):
                annotation = Annotated[annotation, self._number(limit)]
            fields[name] = (annotation, field)
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)

    def _number(self, constraint: Any) -> Any:
        if isinstance(constraint, Limit):
            return constraint.kind(getattr(self.settings, constraint.setting))
        return constraint

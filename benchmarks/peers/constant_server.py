"""The least that FastAPI can do: an endpoint that returns the same answer whatever it is asked.

``ENDPOINT=model`` is what anybody writes: a schema in, a dictionary out. ``ENDPOINT=bytes`` does
not read the question and returns bytes that are ready, which no service of any use could.
"""

import os
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel

ANSWER = Path(os.environ["ANSWER"]).read_bytes()  # as long as ours
VALUES = orjson.loads(ANSWER)

app = FastAPI()


class Question(BaseModel):
    """What is asked."""

    text: str
    prefix: str = ""
    top_k: int = 10


@app.get("/health")
async def health() -> Response:
    """Answer."""
    return Response(b'{"status": "ok"}', media_type="application/json")


async def constant_values(question: Question) -> dict[str, Any]:
    """Answer a question that was read and checked."""
    return VALUES  # type: ignore[no-any-return]


async def constant_bytes() -> Response:
    """Answer without a look at the question."""
    return Response(ANSWER, media_type="application/json")


app.post("/next-word")(constant_values if os.environ["ENDPOINT"] == "model" else constant_bytes)

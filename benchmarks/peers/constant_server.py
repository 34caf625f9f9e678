"""The least that FastAPI can do: an endpoint that returns the same bytes whatever it is asked."""

import os
from pathlib import Path

from fastapi import FastAPI, Response

ANSWER = Path(os.environ["ANSWER"]).read_bytes()  # as long as ours

app = FastAPI()


@app.get("/health")
async def health() -> Response:
    """Answer."""
    return Response(b'{"status": "ok"}', media_type="application/json")


@app.post("/next-word")
async def next_word() -> Response:
    """Answer without a look at the question."""
    return Response(ANSWER, media_type="application/json")

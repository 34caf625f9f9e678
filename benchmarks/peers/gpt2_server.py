"""GPT-2 of transformers behind FastAPI: a forward pass a request, the top of the softmax back.

Passes run on threads of their own, so that the loop goes on reading and writing.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import torch
from fastapi import FastAPI, Response
from pydantic import BaseModel
from transformers import PreTrainedTokenizerFast

from benchmarks.peers.gpt2 import load_gpt2

FOLDER = os.environ["FOLDER"]
MODEL = load_gpt2(FOLDER, int(os.environ["THREADS"]))
TOKENIZER = PreTrainedTokenizerFast.from_pretrained(FOLDER)
WORDS = TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))
PASSES = ThreadPoolExecutor(int(os.environ["WORKERS"]))

app = FastAPI()


class Question(BaseModel):
    """What is asked."""

    text: str
    top_k: int = 10


@app.get("/health")
async def health() -> Response:
    """Answer."""
    return Response(b'{"status": "ok"}', media_type="application/json")


@app.post("/next-word")
async def next_word(question: Question) -> Response:
    """Return the most probable next words."""
    loop = asyncio.get_running_loop()
    predictions = await loop.run_in_executor(PASSES, _predict, question.text, question.top_k)
    return Response(orjson.dumps({"predictions": predictions}), media_type="application/json")


@torch.inference_mode()
def _predict(text: str, top_k: int) -> list[dict[str, Any]]:
    ids = [TOKENIZER.bos_token_id, *TOKENIZER.encode(text, add_special_tokens=False)]
    logits = MODEL(torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1]
    top = torch.softmax(logits, dim=-1).topk(top_k)
    return [
        {"word": WORDS[i], "probability": probability}
        for i, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]

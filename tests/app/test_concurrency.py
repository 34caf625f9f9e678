"""Many requests at once, for two models: each has the answer that it has alone."""

import asyncio

import httpx

from app.settings import Settings
from tests.app.caller import ready_app
from tests.app.conftest import SUBWORD, WORD

ASKED = [
    (path, {"model": name} | body)
    for name in (SUBWORD, WORD)
    for seed in range(3)
    for path, body in [
        ("/next-word", {"text": f"we {'sold ' * seed}", "top_k": 5}),
        ("/score", {"text": ["we sold coffee", "you " * seed], "tokens": True}),
        ("/rank", {"candidates": [{"text": "coffee you"}, {"text": "you coffee"}]}),
        ("/generate", {"text": "I", "strategy": "sample", "seed": seed, "n": 2}),
        ("/generate", {"text": "I", "strategy": "sample", "seed": seed, "stream": True}),
    ]
]


def test_a_busy_service_answers_as_an_idle_one(settings: Settings):
    async def scenario() -> tuple[list[str], list[str]]:
        async with asyncio.timeout(60), ready_app(settings) as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

                async def ask(path: str, body: dict) -> str:
                    response = await client.post(path, json=body)
                    assert response.status_code == 200, response.text
                    return response.text

                alone = [await ask(path, body) for path, body in ASKED]
                together = await asyncio.gather(*(ask(path, body) for path, body in ASKED))
                return alone, list(together)

    alone, together = asyncio.run(scenario())
    assert alone == together
    assert len(set(alone)) > len(ASKED) // 2

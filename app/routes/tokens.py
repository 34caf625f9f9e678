"""A model's tokens: there and back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.direct import direct_route
from app.errors import responses
from app.registry import Registry
from app.schemas.bounds import Bounds
from app.schemas.requests import DetokenizeRequest, ModelName, TokenizeRequest
from app.schemas.responses import DetokenizeResponse, TokenizeResponse, TokenizerInfo
from app.settings import Settings
from app.special_tokens import decode_prompt, encode_prompt, special_tokens
from app.wire import Answer
from models.errors import InvalidRequestError

_PROBLEMS = responses(400, 404, 413, 415, 422, 503)


def token_routes(settings: Settings, registry: Registry) -> APIRouter:
    """Return the routes between text and token ids."""
    router = APIRouter(tags=["tokens"], route_class=direct_route(settings.max_body_bytes))
    bounds = Bounds(settings)

    @router.post(
        "/tokenize",
        response_model=TokenizeResponse,
        responses=_PROBLEMS,
        summary="Text to tokens",
    )
    @bounds.apply
    async def post_tokenize(query: TokenizeRequest) -> Response:
        """The tokens that a model reads a text as."""
        model = registry.get(query.model)
        if query.text is not None and query.prompt is None:
            tokens = (await asyncio.to_thread(model.tokenizer.encode, query.text)).token_ids
        elif query.prompt is not None and query.text is None:
            prompt = await asyncio.to_thread(encode_prompt, model.tokenizer, query.prompt)
            tokens = prompt.token_ids
        else:
            raise InvalidRequestError("text", "give either text or prompt")
        if query.add_special_tokens and tokens[:1] != [model.tokenizer.bos_id]:
            tokens = [model.tokenizer.bos_id, *tokens]
        return Answer(
            {
                "model": model.name,
                "tokens": tokens,
                "count": len(tokens),
                "max_model_len": model.network.context_length,
            }
        )

    @router.post(
        "/detokenize",
        response_model=DetokenizeResponse,
        responses=_PROBLEMS,
        summary="Tokens to text",
    )
    @bounds.apply
    async def post_detokenize(query: DetokenizeRequest) -> Response:
        """The text that tokens stand for."""
        model = registry.get(query.model)
        if max(query.tokens, default=0) >= model.tokenizer.num_ids:
            message = f"must be token ids below {model.tokenizer.num_ids}"
            raise InvalidRequestError("tokens", message)
        text = await asyncio.to_thread(model.tokenizer.decode, query.tokens)
        prompt = await asyncio.to_thread(decode_prompt, model.tokenizer, query.tokens)
        return Answer({"model": model.name, "text": text, "prompt": prompt})

    @router.get(
        "/tokenizer_info",
        response_model=TokenizerInfo,
        responses=responses(404, 422, 503),
        summary="The tokenizer",
    )
    async def get_tokenizer_info(
        model: Annotated[ModelName | None, Query(description="Name of the model.")] = None,
    ) -> Response:
        """The tokenizer of a model, and its special tokens."""
        found = registry.get(model)
        special = await asyncio.to_thread(special_tokens, found.tokenizer)
        return Answer(
            {
                "model": found.name,
                "kind": found.tokenizer.kind,
                "vocab_size": found.tokenizer.vocab_size,
                "bos_token": special.bos,
                "bos_token_id": found.tokenizer.bos_id,
                "eos_token": special.eos,
                "eos_token_id": found.tokenizer.eos_id,
                "unk_token": special.unk,
                "unk_token_id": found.tokenizer.unk_id,
                "max_model_len": found.network.context_length,
            }
        )

    return router

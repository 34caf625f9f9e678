"""What an operator can set, each from an environment variable ``NEXTWORD_<NAME>``."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.engine.limits import Limits
from app.threads import available_threads

PREFERRED = "everyday-lstm"


class Settings(BaseSettings):
    """Settings of the service; its defaults suit one machine and clients that are not trusted."""

    model_config = SettingsConfigDict(
        env_prefix="NEXTWORD_", env_ignore_empty=True, frozen=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes any that is free")
    models_dir: Path = Field(Path("checkpoints"), description="folder with one folder a model")
    default_model: str | None = Field(
        None, description="model of a request that names none; see `choose_default`"
    )

    workers: int = Field(
        1, ge=1, le=256, description="processes that serve the port; queue and cache are each one's"
    )

    api_keys: str = Field(
        "", repr=False, description="lines of `nextword keys new`, between them a comma or space"
    )
    api_keys_file: Path | None = Field(None, description="file of such lines, one a key")
    public_docs: bool = Field(False, description="/docs and /openapi.json need no key")
    public_metrics: bool = Field(False, description="/metrics needs no key")
    requests_per_minute: int = Field(
        0, ge=0, description="of one key, or address where there are no keys; 0 is no limit"
    )
    items_per_minute: int = Field(
        0,
        ge=0,
        description="texts, candidates and continuations of one key or address; 0 is no limit",
    )
    allowed_hosts: str = Field(
        "", description="host names to answer for, *.example.com too; empty is any"
    )
    trusted_proxies: str = Field(
        "", description="addresses or networks whose X-Forwarded-For and -Proto are believed"
    )
    max_connections: int = Field(1000, ge=1, description="open at a time; 503 beyond")
    head_seconds: float = Field(
        10, gt=0, le=3600, description="most seconds for a request's head, and of silence before it"
    )
    body_seconds: float = Field(
        60, gt=0, le=3600, description="most seconds for a body, until the answer begins"
    )
    send_seconds: float = Field(
        60, gt=0, le=3600, description="most seconds that a client may leave an answer unread"
    )

    drain_seconds: float = Field(
        0, ge=0, le=600, description="seconds to go on listening after SIGTERM, /ready being 503"
    )
    shutdown_seconds: float = Field(
        20, gt=0, le=3600, description="most seconds from SIGTERM to the end, requests cut short"
    )

    precision: Literal["auto", "float32", "int8"] = Field(
        "auto", description="of the networks; auto is float32 on a GPU, and int8 where that works"
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="processors to compute with, all workers together; 0 is all it may use",
    )
    queue_items: int = Field(
        2048, ge=1, description="texts and continuations that wait or run, a model; 429 beyond"
    )
    running_items: int = Field(512, ge=1, description="how many of them run at a time")
    deadline_seconds: float = Field(
        60, gt=0, le=86400, description="most seconds that an answer may take, waiting included"
    )
    cache_megabytes: float = Field(
        256,
        ge=0,
        le=1 << 30,
        description="MiB a model for what was read, so that it is not read again",
    )

    cors_origins: str = Field(
        "",
        description="origins whose pages may ask from a browser, by commas; * is any, empty none",
    )

    read_ahead: int = Field(
        3, ge=0, le=16, description="likely next keystrokes to read for while nobody asks"
    )

    bulk_lines: int = Field(
        256, ge=128, le=65_536, description="lines of a bulk request read before one is answered"
    )

    max_body_bytes: int = Field(
        1 << 20, ge=1, description="bytes of one request's body, or of one line in bulk"
    )
    max_text_characters: int = Field(16_384, ge=1, description="characters of one text")
    max_word_characters: int = Field(64, ge=1, description="characters of a word or prefix")
    max_texts: int = Field(256, ge=1, description="texts to score or rank in one request")
    max_candidates: int = Field(1000, ge=1, description="words to look up or exclude in a request")
    max_top_k: int = Field(1000, ge=10, description="predictions or sampling choices")
    max_tokens: int = Field(1024, ge=32, description="tokens to generate for one continuation")
    max_continuations: int = Field(16, ge=1, description="continuations of one request")
    max_beams: int = Field(16, ge=4, description="beams of one search")
    max_stops: int = Field(16, ge=1, description="stop strings of one request")
    max_token_ids: int = Field(32_768, ge=1, description="token ids to turn back into text")

    def most_threads(self) -> int:
        """Return how many threads a process computes with."""
        if self.threads:
            return max(1, self.threads // self.workers)
        return available_threads(workers=self.workers)

    def limits(self) -> Limits:
        """Return how much the engine takes on."""
        return Limits(
            queue_items=self.queue_items,
            running_items=self.running_items,
            cache_bytes=int(self.cache_megabytes * (1 << 20)),
            deadline=self.deadline_seconds,
        )

    def choose_default(self, names: Collection[str]) -> str:
        """Return the model of a request that names none, among ``names``, at least one.

        Unless it is configured, ``everyday-lstm`` if it is there, else the first by name.
        """
        return self.default_model or (PREFERRED if PREFERRED in names else min(names))

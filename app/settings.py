"""What an operator can set, each from an environment variable ``NEXTWORD_<NAME>``."""

from collections.abc import Collection
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFERRED = "everyday-lstm"


class Settings(BaseSettings):
    """Settings of the service; its defaults suit one machine and clients that are not trusted."""

    model_config = SettingsConfigDict(env_prefix="NEXTWORD_", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes any that is free")
    models_dir: Path = Field(Path("checkpoints"), description="folder with one folder a model")
    default_model: str | None = Field(
        None, description="model of a request that names none; see `choose_default`"
    )

    drain_seconds: float = Field(
        0, ge=0, le=600, description="seconds to go on listening after SIGTERM, /ready being 503"
    )
    shutdown_seconds: float = Field(
        20, gt=0, le=3600, description="most seconds from SIGTERM to the end, requests cut short"
    )

    max_body_bytes: int = Field(1 << 20, ge=1, description="bytes of one request's body")
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

    def choose_default(self, names: Collection[str]) -> str:
        """Return the model of a request that names none, among ``names``, at least one.

        Unless it is configured, ``everyday-lstm`` if it is there, else the first by name.
        """
        return self.default_model or (PREFERRED if PREFERRED in names else min(names))

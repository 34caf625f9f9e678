"""What keyboards for augmentative and alternative communication are answered."""

from pydantic import BaseModel, Field


class AacResult(BaseModel):
    """A word or character that may come next."""

    text: str = Field(description="The whole word, what is typed of it included; or a character.")
    logProb: float = Field(  # as these keyboards know it
        description="Natural logarithm of its probability, given all that is typed."
    )


class WordPrediction(BaseModel):
    """Words that may come next."""

    results: list[AacResult] = Field(description="Most probable first.")
    words: list[str] = Field(description="The same words alone.")


class CharacterPrediction(BaseModel):
    """Characters that may come next; a space ends the word."""

    results: list[AacResult] = Field(description="Most probable first.")

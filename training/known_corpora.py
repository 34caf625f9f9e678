"""Where well-known texts come from, by the name of their folder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """What a model card has to say about a text: what it is, and its licence."""

    title: str
    licence: str


OWN = Source("your own text", "your own")

KNOWN = {
    "dialogue": Source(
        "utterances of the Schema-Guided Dialogue data set (Rastogi et al. 2020, Google Research)",
        "CC BY-SA 4.0",
    ),
    "sentences": Source(
        "the English side of Tatoeba's English–French sentence pairs (tatoeba.org)",
        "CC BY 2.0 FR",
    ),
    "wikitext-2": Source(
        "WikiText-2 (Merity et al. 2016), articles of the English Wikipedia",
        "CC BY-SA 3.0",
    ),
}


def source_of(data: str) -> Source:
    """Return the source of a file that is called ``folder/name`` in reports."""
    return KNOWN.get(data.partition("/")[0], OWN)

"""The most probable next words, exactly: a best-first search over unfinished words.

A heap holds every known continuation, finished or not, by its probability. A longer piece of text
is never more probable than its beginning, so what leaves the heap finished is more probable than
everything still in it: the words come out in their true order (Dijkstra 1959; for strings over
tokens, Vieira et al. 2024). How much of the probability was seen is reported, and a search that
gives up says so.

A typed prefix restricts the search by string. Its probability, by which the words' are divided, is
the sum over all ways in which tokens that may be written cover it.

For a network gives some probability to rows of tokens that the tokenizer never writes, as it spells
the same text otherwise. They are nobody's words: behind two tokens within a word that are never
written side by side (`models.tokenizers.merges`) nothing is searched and nothing is added up. That
spares many of the passes of typing.
"""

from models.forward import Pass, Program
from models.frontier import Found, Frontier, Question
from models.native.search import NativeFrontier, suits
from models.plain_frontier import PlainFrontier


class Search(Question):
    """One search for the words behind a text."""

    def run(self, root: Pass) -> Program[Found]:
        """Search behind what ``root`` has read, whose log-probabilities are the first piece's."""
        frontier = self._frontier(root)
        while forwards := frontier.ask():
            frontier.tell((yield forwards))
        return frontier.found()

    def _frontier(self, root: Pass) -> Frontier:
        return NativeFrontier(self, root) if suits(self, root) else PlainFrontier(self, root)

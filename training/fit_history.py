"""Find how much a history should count, for `models.history.Strengths`: one command.

    python -m training.fit_history CHECKPOINT … --data FILE --data FILE …

Lines of every file are read with what stands before them as history, and with a document of the
next file, which has nothing to do with them. The strengths of matches minimise the mean nats per
word of all that together; of the shares that cost no unrelated history more than it may, those are
taken that then do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from models.checkpoint import load_checkpoint
from models.forward import Forward
from models.history import STRENGTHS, History, Strengths
from models.language_model import LanguageModel
from models.recall import READ
from training.corpora import data_name
from training.with_history import draw_documents, histories, other_histories

_SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
_STEPS = 40


@dataclass(frozen=True)
class Lines:
    """Lines of a file with histories, as the readers saw them; L lines of at most T tokens.

    Attributes:
        name: Of the file, and of the history's.
        related: The history is what stands before the line.
        words: White-space separated words.
        real: The token is none of the padding, (L, T), bool.
        anew: Probability of each token without a history, (L, T), float64.
        knowing: The same of the network that has read the history.
        inside: The token goes on with a word, (L, T), int64.
        matches: For matches of each length, how often they occurred, how many different tokens
            followed, and how often this one, (L, T, lengths, 3).
    """

    name: str
    related: bool
    words: int
    real: Tensor
    anew: Tensor
    knowing: Tensor
    inside: Tensor
    matches: Tensor

    def perplexity(self, strengths: Tensor, prior: Tensor, switching: float) -> Tensor:
        """Return perplexity per word with strengths (2, lengths), between words and inside."""
        given = strengths[self.inside]  # (L, T, lengths)
        anew, knowing = self.anew, self.knowing
        for length in range(given.shape[-1]):
            seen, different, this = self.matches[:, :, length].unbind(-1)  # (L, T)
            share = seen / (seen + given[:, :, length] * different).clamp_min(1e-9)
            repeated = share * this / seen.clamp_min(1)
            knowing = (1 - share) * knowing + repeated
            anew = (1 - share) * anew + repeated
        readers = torch.stack([self.anew, anew, knowing], dim=-1)  # (L, T, 3)
        weights, nats = prior.expand(len(readers), 3), torch.zeros((), dtype=torch.float64)
        for t in range(readers.shape[1]):
            likely = weights * readers[:, t]
            total = likely.sum(-1)
            nats = nats - total[self.real[:, t]].log().sum()
            weights = (1 - switching) * likely / total[:, None] + switching * prior
        return (nats / self.words).exp()


def collect(
    model: LanguageModel, texts: Sequence[str], given: Sequence[str], *, name: str, related: bool
) -> Lines:
    """Read lines with the histories given to each."""
    tokenizer, lengths = model.tokenizer, len(STRENGTHS.between)
    rows = []
    for text, before in zip(texts, given, strict=True):
        history = History(tokenizer, before)
        token_ids = [*tokenizer.encode_ids(text), tokenizer.eos_id]
        heard = [tokenizer.eos_id, *token_ids[:-1]]
        end = history.token_ids[1:-1][-READ:].tolist()
        passes = model.compute(
            [
                Forward([tokenizer.bos_id, *heard[1:]], None, "targets", token_ids),
                Forward(
                    [tokenizer.bos_id, *end, *heard], None, "targets", [*end, heard[0], *token_ids]
                ),
            ]
        )
        anew, knowing = (p.log_probs[-len(token_ids) :].double().exp() for p in passes)
        matches = torch.zeros(len(token_ids), lengths, 3, dtype=torch.float64)
        for i, token_id in enumerate(token_ids):
            for length, at in enumerate(history.matches(heard[: i + 1])):
                followed = history.token_ids[at].tolist()
                counts = len(followed), len(set(followed)), followed.count(token_id)
                matches[i, length] = torch.tensor(counts)
        inside = torch.tensor([int(history.is_inside(i)) for i in heard])
        rows.append((torch.ones(len(token_ids), dtype=torch.bool), anew, knowing, inside, matches))
    pad = torch.nn.utils.rnn.pad_sequence
    real, anew, knowing, inside, matches = (
        pad(list(column), batch_first=True) for column in zip(*rows, strict=True)
    )
    anew, knowing = anew.where(real, torch.ones(())), knowing.where(real, torch.ones(()))
    words = max(1, sum(len(text.split()) for text in texts))
    return Lines(name, related, words, real, anew, knowing, inside, matches)


def fit(
    sets: Sequence[Lines], *, most_cost: float, shares: Sequence[float] = _SHARES
) -> tuple[Strengths, float]:
    """Return the best strengths, and the mean nats per word with them.

    Args:
        sets: Lines with related and unrelated histories.
        most_cost: Share of perplexity per word that an unrelated history may cost.
        shares: To try for `Strengths.repeating` and `Strengths.knowing`.
    """
    switching = STRENGTHS.switching
    initial = torch.tensor([STRENGTHS.between, STRENGTHS.within], dtype=torch.float64)
    logs = initial.log().requires_grad_()
    optimizer = torch.optim.LBFGS([logs], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def prior(repeating: float, knowing: float) -> Tensor:
        values = (1 - repeating - knowing, repeating, knowing)
        return torch.tensor(values, dtype=torch.float64)

    def nats(prior: Tensor) -> Tensor:
        found = [lines.perplexity(logs.exp(), prior, switching).log() for lines in sets]
        return torch.stack(found).mean()

    def closure() -> float:
        optimizer.zero_grad()
        loss = nats(prior(STRENGTHS.repeating, STRENGTHS.knowing))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    between, within = (tuple(row) for row in logs.detach().exp().tolist())
    best = Strengths(min(shares), min(shares), switching, between, within)
    lowest = float("inf")
    with torch.no_grad():
        for repeating, knowing in product(shares, shares):
            tried = prior(repeating, knowing)
            costs = [
                lines.perplexity(logs.exp(), tried, switching) / _alone(lines) - 1
                for lines in sets
                if not lines.related
            ]
            loss = float(nats(tried))
            if max(map(float, costs), default=0.0) <= most_cost and loss < lowest:
                lowest = loss
                best = Strengths(repeating, knowing, switching, between, within)
    return best, lowest


def _alone(lines: Lines) -> float:
    return float((-lines.anew.log().sum() / lines.words).exp())


def _tensors(strengths: Strengths) -> tuple[Tensor, Tensor, float]:
    shares = (strengths.repeating, strengths.knowing)
    return (
        torch.tensor([strengths.between, strengths.within], dtype=torch.float64),
        torch.tensor([1 - sum(shares), *shares], dtype=torch.float64),
        strengths.switching,
    )


def main(
    checkpoints: Annotated[list[Path], typer.Argument(help="Folders of checkpoints.")],
    data: Annotated[list[Path], typer.Option(help="Text to fit on; repeatable.")],
    lines: Annotated[int, typer.Option(min=1, help="Lines of each file.")] = 2000,
    most_cost: Annotated[
        float, typer.Option(min=0, help="Most that an unrelated history may cost.")
    ] = 0.03,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawing.")] = 0,
) -> None:
    """Print the strengths that suit the checkpoints together, and what they and today's do."""
    drawn = {path: draw_documents(path, lines=lines, seed=seed) for path in data}
    sets: list[Lines] = []
    for folder in checkpoints:
        model = load_checkpoint(folder)
        for path, following in zip(data, [*data[1:], data[0]], strict=True):
            documents = drawn[path]
            texts = [line for document in documents for line in document]
            name = f"{model.name}, {data_name(path)}"
            given = histories(documents)
            sets.append(collect(model, texts, given, name=name, related=True))
            if following != path:
                given = other_histories(documents, drawn[following])
                name += f" after {data_name(following)}"
                sets.append(collect(model, texts, given, name=name, related=False))
    best, lowest = fit(sets, most_cost=most_cost)
    if lowest == float("inf"):
        typer.echo(f"none costs at most {most_cost:.1%}: these are the least shares", err=True)
    typer.echo(f"{best}\n\nperplexity per word: without, with these strengths, with today's")
    with torch.no_grad():
        for group in sets:
            found = [float(group.perplexity(*_tensors(s))) for s in (best, STRENGTHS)]
            alone = _alone(group)
            changes = "  ".join(f"{ppl:8.1f} {ppl / alone - 1:+7.1%}" for ppl in found)
            typer.echo(f"{group.name:<60} {alone:8.1f}  {changes}")


if __name__ == "__main__":
    typer.run(main)

"""A random grammar whose entropy is known: a Markov chain over a few words, ended by a stop."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS = ("the", "a", "cat", "cats", "dog", "sat", "ran", "on", "mat", "milk", "don't", "there")


@dataclass(frozen=True)
class Grammar:
    """Chances of each next word: ``table[i, j]`` of word j behind word i, column -1 ends the line.

    The last row is for the beginning of a line, which is never empty.
    """

    table: np.ndarray

    @classmethod
    def random(cls, seed: int) -> "Grammar":
        table = np.random.default_rng(seed).dirichlet(np.full(len(WORDS) + 1, 0.4), len(WORDS) + 1)
        table[:, -1] = 0.15
        table[-1, -1] = 0.0
        table[:, :-1] *= ((1 - table[:, -1]) / table[:, :-1].sum(-1))[:, None]
        return cls(table)

    def line(self, random: np.random.Generator) -> list[int]:
        words: list[int] = []
        while True:
            row = self.table[words[-1] if words else -1]
            word = int(random.choice(len(row), p=row))
            if word == len(WORDS):
                return words
            words.append(word)

    def lines(self, count: int, seed: int) -> list[list[int]]:
        random = np.random.default_rng(seed)
        return [self.line(random) for _ in range(count)]

    def nats(self, line: list[int]) -> float:
        rows = [-1, *line]
        return -float(np.log(self.table[rows, [*line, len(WORDS)]]).sum())


def text(lines: list[list[int]]) -> str:
    return "".join(" ".join(WORDS[word] for word in line) + "\n" for line in lines)


def write(path: Path, lines: list[list[int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(lines), encoding="utf-8")
    return path

"""Text without a vocabulary: words are hashed into two tables and read by a GRU."""

import hashlib
import re
from functools import lru_cache

import torch
from torch import nn

ROWS = 1024
"""Rows of each table. Two words collide only if they do in both: one chance in a million."""

_WORDS = re.compile(r"\w+|[^\w\s]")


@lru_cache(maxsize=65536)
def word_rows(text: str) -> tuple[tuple[int, int], ...]:
    """Rows of a text's words in the two tables, the same in every process; row 0 stands for no word."""
    rows = []
    for word in _WORDS.findall(text.lower()):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        one, two = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
        rows.append((1 + one % (ROWS - 1), 1 + two % (ROWS - 1)))
    return tuple(rows) or ((0, 0),)


class TextEncoder(nn.Module):
    """Encodes text as the last state of a GRU over its words' embeddings.

    Args:
        size: of the encoding.
        embedding: of a word.
    """

    def __init__(self, size: int, embedding: int = 32) -> None:
        super().__init__()
        self.size = size
        self.words = nn.ModuleList([nn.Embedding(ROWS, embedding) for _ in range(2)])
        self.gru = nn.GRU(embedding, size, batch_first=True)

    def forward(self, texts: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """B lists of T strings to the encodings of the different strings, and where each frame's stands.

        Returns:
            Encodings (different strings, size), and positions in them (B * T,) int64.
        """
        rows, ends, where = (part.to(self.gru.weight_ih_l0.device, non_blocking=True) for part in _number(texts))
        embedded = self.words[0](rows[..., 0]) + self.words[1](rows[..., 1])
        states, _ = self.gru(embedded)
        last = ends[:, None, None].expand(-1, 1, self.size)
        return states.gather(1, last).squeeze(1), where


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _number(texts: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (different strings, words, 2) of padded words, the last word of each, and each frame's string."""
    places: dict[str, int] = {}
    where = [places.setdefault(text, len(places)) for row in texts for text in row]
    words = [word_rows(text) for text in places]
    longest = max(map(len, words))
    padded = [row + ((0, 0),) * (longest - len(row)) for row in words]
    return torch.tensor(padded), torch.tensor([len(row) - 1 for row in words]), torch.tensor(where)

"""Token trees: rows that begin alike, with every beginning computed once.

What: `token_trees` makes trees of rows; a `TokenTree` says what attention and a query window see at
each of its nodes.
Why: the wordings of a relation begin alike, and so do a subject's look-alikes up to the name.
How: a node is a token behind a certain beginning. All nodes of a tree go through the blocks as one packed row
in which each sees its ancestors alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NODES = 256
"""Nodes of a tree, about: attention's cost goes with their square, and below this the products get slow."""


@dataclass(frozen=True)
class TokenTree:
    """Some rows, laid over each other as far as they begin alike.

    Attributes:
        tokens: int64 [nodes].
        parents: int64 [nodes], the node of the token before, always an earlier one; -1 = a row begins here.
        depths: int64 [nodes], how many tokens lie before it.
        rows: which rows these are.
        paths: of each row the nodes of its tokens, int64 [length].
    """

    tokens: Tensor
    parents: Tensor
    depths: Tensor
    rows: tuple[int, ...]
    paths: tuple[Tensor, ...]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, [nodes, nodes]: 0 where a node sees itself or an ancestor."""
        sees = torch.eye(len(self.tokens), dtype=torch.bool)
        for depth in range(1, int(self.depths.max()) + 1 if len(self.depths) else 0):
            nodes = (self.depths == depth).nonzero().flatten()
            sees[nodes] |= sees[self.parents[nodes]]
        return torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)

    def windows(self, hidden: Tensor, window: int) -> Tensor:
        """Put each node's state and those of the window - 1 nodes before it side by side, as query_windows.

        Args:
            hidden: [nodes, dim].
            window: tokens seen by a query.

        Returns:
            [nodes, window * dim], the node itself first; before a row's first token that token again.
        """
        node = torch.arange(len(self.tokens))
        seen = []
        for _ in range(window):
            seen.append(hidden[node])
            node = torch.where(self.parents[node] < 0, node, self.parents[node])
        return torch.cat(seen, -1)


def token_trees(rows: Sequence[Sequence[int]], max_nodes: int = NODES) -> list[TokenTree]:
    """Lay rows over each other as far as they begin alike.

    Args:
        rows: token ids; a row may be empty.
        max_nodes: nodes of a tree; a longer row has a tree for itself.

    Returns:
        Trees that together hold every row once.
    """
    trees: list[_Growing] = []
    # In this order, rows that begin alike are neighbours.
    for index in sorted(range(len(rows)), key=lambda index: (tuple(rows[index]), index)):
        if not trees or not trees[-1].takes(rows[index], max_nodes):
            trees.append(_Growing())
        trees[-1].add(index, rows[index])
    return [tree.grown() for tree in trees]


class _Growing:
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.rows: list[int] = []
        self.paths: list[list[int]] = []

    def takes(self, row: Sequence[int], max_nodes: int) -> bool:
        return len(self.tokens) + len(row) - self._shared(row) <= max_nodes

    def add(self, index: int, row: Sequence[int]) -> None:
        shared = self._shared(row)
        path = self.paths[-1][:shared] if self.paths else []
        for depth in range(shared, len(row)):
            self.parents.append(path[-1] if path else -1)
            self.tokens.append(row[depth])
            self.depths.append(depth)
            path.append(len(self.tokens) - 1)
        self.rows.append(index)
        self.paths.append(path)

    def grown(self) -> TokenTree:
        tokens, parents, depths = (
            torch.tensor(part, dtype=torch.int64) for part in (self.tokens, self.parents, self.depths)
        )
        paths = tuple(torch.tensor(path, dtype=torch.int64) for path in self.paths)
        return TokenTree(tokens, parents, depths, tuple(self.rows), paths)

    def _shared(self, row: Sequence[int]) -> int:
        """Tokens at the start of a row that the latest row has too."""
        path = self.paths[-1] if self.paths else []
        shared = 0
        while shared < min(len(path), len(row)) and self.tokens[path[shared]] == row[shared]:
            shared += 1
        return shared

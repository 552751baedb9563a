"""Batches of running text: documents one after the other, cut into rows of one length.

A row may hold the end of one document and the beginning of the next, with the end token between them; nothing
is padded, and every token carries loss.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from memedit.errors import UsageError
from memedit.facts.formats.hub_datasets import PREFIX, hub_records
from memedit.modeling import prompt_ids
from memedit.modeling.background import read_background
from memedit.pretraining.batches import Batch


class PackedBatches:
    """Rows of packed text, in another order in every exposure.

    Args:
        texts: the documents.
        tokenizer: the model's.
        config: the model's.
        batch_rows: rows a batch.
        row_tokens: tokens a row.
        seed: of the order.

    Raises:
        ValueError: when the texts do not fill a row.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        config: PreTrainedConfig,
        *,
        batch_rows: int,
        row_tokens: int,
        seed: int = 0,
    ) -> None:
        # Every text ends where the next one's begin token stands; the last one with the end token.
        tokens = [token for text in texts for token in prompt_ids(tokenizer, config, text)]
        tokens.append(int(tokenizer.eos_token_id or 0))
        num_rows = (len(tokens) - 1) // row_tokens
        if num_rows == 0:
            raise ValueError(f"text: got {len(tokens)} tokens, expected more than row_tokens ({row_tokens})")
        self.rows = torch.tensor(tokens[: num_rows * row_tokens + 1])
        self.num_rows, self.row_tokens, self.batch_rows, self.seed = num_rows, row_tokens, batch_rows, seed

    @property
    def steps_per_exposure(self) -> int:
        """Batches of an exposure."""
        return -(-self.num_rows // self.batch_rows)

    def exposure(self, number: int) -> list[Batch]:
        """Batches of an exposure, counted from 0: always the same ones."""
        order = list(range(self.num_rows))
        random.Random(f"{self.seed}-{number}").shuffle(order)
        places = torch.tensor(order)[:, None] * self.row_tokens + torch.arange(self.row_tokens)
        return [
            Batch(self.rows[part], self.rows[part + 1], part.numel())
            for part in places.split(self.batch_rows)
        ]


def read_texts(source: str) -> list[str]:
    """Read documents.

    Args:
        source: a text file (blank lines between documents), a .jsonl with a text field, or
            hf:owner/name/config:split, a dataset that `datasets` reads, with a column named text.

    Raises:
        UsageError: when it cannot be read or has no text.
    """
    if not source.startswith(PREFIX):
        return read_background(Path(source))
    texts = [str((record.value or {}).get("text") or "") for record in hub_records(source)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(f"text {source!r}: no text in it", remedy="Name a dataset with a column text.")
    return texts

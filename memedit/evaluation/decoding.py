"""One step at a time through a causal LM: the rows that are still being written, and when a text ends.

What: `LiveRows` (a batch with its cache), `Decoder` (batches, begin, step, stop).
Why: greedy answers (generation.py) and samples (sampling.py) differ in how the next token is chosen, and in
nothing else.
How: left padding with explicit positions and mask, BOS in front (memedit.modeling.encoding). The cache is the
one that the model makes itself, so a memory layer's query window travels in it. The language-model head runs
at the last position only. Behind a shared prefix (shared_prefix.py) the prompts stand on the left, since the
prefix must touch them; their keys and values are then moved to the right, so that every batch looks alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from memedit.evaluation.shared_prefix import LENT_FACTOR, SharedPrefix, groups_that_begin_alike, share_prefix
from memedit.modeling.encoding import bos_ids, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Decoder", "LiveRows", "Stopped"]

Stopped = Literal["eos", "newline", "length"]


@dataclass
class LiveRows:
    """The rows of a batch that are still being written.

    Args:
        rows: For each live row the index of its prompt in the whole batch.
        input_ids: [rows, new], the tokens to run next.
        mask: [rows, seen], 0 on padding.
        positions: [rows, new].
        cache: What the model keeps of the tokens that it has seen.
    """

    rows: list[int]
    input_ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    cache: Any = None

    def keep(self, kept: list[int]) -> None:
        """Keep the rows at the indices `kept` alone; an index that occurs twice makes two rows of one."""
        if kept == list(range(len(self.rows))):
            return
        chosen = torch.tensor(kept, device=self.mask.device)
        self.rows = [self.rows[index] for index in kept]
        self.mask, self.positions = self.mask[chosen], self.positions[chosen]
        # Recurrent layers of hybrid models know reorder_cache only; it selects rows just as well.
        layers = getattr(self.cache, "layers", ())
        if all(hasattr(layer, "batch_select_indices") for layer in layers):
            self.cache.batch_select_indices(chosen)
        else:
            self.cache.reorder_cache(chosen)

    def append(self, tokens: list[int]) -> None:
        """Make the chosen tokens, one per row, the next input."""
        self.input_ids = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


class Decoder:
    """A model and its tokenizer, one step at a time.

    Args:
        model: Any transformers causal LM, on any device.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.ends = _end_ids(model, tokenizer)
        self._breaks: dict[int, bool] = {}
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def encode(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the tokens of each prompt, begin token in front.

        Raises:
            ValueError: a prompt holds no token.
        """
        rows = [tuple(prompt_ids(self.tokenizer, self.model.config, prompt)) for prompt in prompts]
        if not all(rows):
            raise ValueError(f"prompts[{rows.index(())}] is empty, expected text to continue")
        return rows

    def batches(
        self, rows: Sequence[tuple[int, ...]], tokens_of: Callable[[int], int], batch_tokens: int
    ) -> Iterator[tuple[list[tuple[int, ...]], SharedPrefix]]:
        """Yield batches of rows that begin alike or have similar lengths, with what they share.

        Args:
            rows: Token ids of the prompts; equal rows are run once.
            tokens_of: Tokens that a batch holds for a row with that many of its own.
            batch_tokens: Most tokens of a batch; a longer row is run alone.
        """
        # Longest first, so that a lack of memory shows at once. The order within a length is fixed too: the
        # same prompts make the same batches, hence the same bits.
        ordered = sorted(set(rows), key=lambda row: (len(row), row), reverse=True)
        for group in groups_that_begin_alike([row[:-1] for row in ordered]):
            shared = share_prefix(self.model, [ordered[index][:-1] for index in group])
            start = 0
            while start < len(group):
                longest = len(ordered[group[start]])
                size = min(
                    batch_tokens // tokens_of(longest - len(shared.ids)),
                    LENT_FACTOR * batch_tokens // tokens_of(longest),
                )
                end = start + max(1, size)
                yield [ordered[index] for index in group[start:end]], shared
                start = end

    def begin(self, rows: Sequence[tuple[int, ...]], shared: SharedPrefix) -> tuple[LiveRows, torch.Tensor]:
        """Run a batch of prompts.

        Args:
            rows: Token ids.
            shared: What all of them begin with.
        Returns:
            The rows, and the logits behind each prompt, [rows, vocabulary].
        """
        if shared.ids:
            return self._begin_behind(rows, shared)
        device = self.model.device
        longest = max(map(len, rows))
        # The padding token's identity is of no consequence: the mask hides it.
        padded = [[0] * (longest - len(row)) + list(row) for row in rows]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        places = torch.arange(longest, device=device) - (longest - lengths)[:, None]
        input_ids = torch.tensor(padded, device=device)
        live = LiveRows(list(range(len(rows))), input_ids, (places >= 0).long(), places.clamp_min(0))
        return live, self.logits(live)

    def _begin_behind(
        self, rows: Sequence[tuple[int, ...]], shared: SharedPrefix
    ) -> tuple[LiveRows, torch.Tensor]:
        """Run what each prompt has of its own behind the shared prefix."""
        device, num_shared = self.model.device, len(shared.ids)
        longest = max(map(len, rows))
        padded = [[*row[num_shared:], *[0] * (longest - len(row))] for row in rows]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
        ends = sorted({len(row) - num_shared - 1 for row in rows})
        output = self.model(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=mask,
            past_key_values=shared.lend(len(rows)),
            use_cache=True,
            **({"logits_to_keep": torch.tensor(ends, device=device)} if self._options else {}),
        )
        kept = ends if self._options else list(range(longest - num_shared))
        columns = torch.tensor([kept.index(len(row) - num_shared - 1) for row in rows], device=device)
        logits = output.logits[torch.arange(len(rows), device=device), columns]
        places = torch.arange(longest, device=device) - (longest - lengths)[:, None]
        _move_right(output.past_key_values, places % longest)
        live = LiveRows(
            list(range(len(rows))),
            torch.empty(0, dtype=torch.long),
            (places >= 0).long(),
            places.clamp_min(0),
            output.past_key_values,
        )
        return live, logits

    def logits(self, live: LiveRows) -> torch.Tensor:
        """Run the next input of every row; return the logits behind it, [rows, vocabulary]."""
        positions = {"position_ids": live.positions} if self._takes_positions else {}
        output = self.model(
            input_ids=live.input_ids,
            attention_mask=live.mask,
            past_key_values=live.cache,
            use_cache=True,
            **positions,
            **self._options,
        )
        live.cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def stopped(self, token: int, *, is_last: bool) -> Stopped | None:
        """Say what ends a text after this token: an end token, a newline, or the budget; None when nothing.

        Args:
            token: The token just chosen.
            is_last: Whether the budget holds no further token.
        """
        if token in self.ends:
            return "eos"
        if token not in self._breaks:
            self._breaks[token] = "\n" in self.decode([token])
        if self._breaks[token]:
            return "newline"
        return "length" if is_last else None

    def answer_text(self, tokens: Sequence[int], stopped: Stopped) -> str:
        """Return the text of an answer: up to the first newline, without surrounding spaces."""
        return self.decode(tokens[:-1] if stopped == "eos" else tokens).split("\n", 1)[0].strip()

    def decode(self, tokens: Sequence[int]) -> str:
        """Return tokens as text, special tokens left out."""
        return str(
            self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


def _move_right(cache: Any, places: torch.Tensor) -> None:
    """Move each row's keys and values so that its padding stands in front.

    Args:
        cache: A cache of dynamic layers.
        places: [rows, time], where what belongs at each place stands now.
    """
    for layer in cache.layers:
        index = places[:, None, :, None]
        layer.keys, layer.values = (
            states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))
            for states in (layer.keys, layer.values)
        )


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a text; what stands in front of a prompt counts: it starts the next text."""
    generation = getattr(model, "generation_config", None)
    candidates = (
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
        bos_ids(tokenizer, model.config),
    )
    ends: set[int] = set()
    for candidate in candidates:
        if isinstance(candidate, int):
            ends.add(candidate)
        elif candidate is not None:
            ends.update(candidate)
    return frozenset(ends)

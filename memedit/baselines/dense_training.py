"""Training dense weights on teaching rows: shuffled mini-batches over all facts, AdamW with fp32 masters.

The weights of the model may be bf16, in which a step of a small learning rate is rounded away: the optimizer
keeps fp32 copies and writes them back. Only the answers' positions go through the head. Rows of a batch are
of similar length.

Source: AdamW, Loshchilov & Hutter 2019 (arXiv 1711.05101); breadth-first mini-batches, LocFT-BF 2025
(arXiv 2509.22072).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from memedit.baselines.teaching import Teaching
from memedit.editing.batches import shuffled_batches
from memedit.editing.freed_memory import release_freed_memory
from memedit.editing.frozen_blocks import round_up
from memedit.modeling import EncodedFact, MemoryLlamaForCausalLM
from memedit.modeling.lower_blocks import pad_right

_MAX_NORM = 1.0
_WARM_UP = 0.05

Loss = Callable[[Sequence[int]], Tensor]
"""Mean cross-entropy of the answer tokens of some rows, by index."""


class MasterAdamW:
    """AdamW whose state and weights are fp32, for parameters of any type.

    Args:
        parameters: what is trained; written after every step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.masters = [parameter.detach().float().clone() for parameter in self.parameters]
        # One optimizer each: the fp32 gradient of one parameter at a time is all that has to be held.
        self.rules = [torch.optim.AdamW([master], weight_decay=0.0, fused=True) for master in self.masters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move by the gradients, clipped to a norm of 1, and drop them."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.stack([gradient.norm(dtype=torch.float32) for gradient in gradients]).norm()
        scale = (_MAX_NORM / (norm + 1e-6)).clamp(max=1.0)
        for parameter, master, rule in zip(self.parameters, self.masters, self.rules, strict=True):
            if parameter.grad is None:
                continue
            master.grad, parameter.grad = parameter.grad.float().mul_(scale), None
            rule.param_groups[0]["lr"] = rate
            rule.step()
            master.grad = None
            parameter.copy_(master)


def train_dense(
    teaching: Teaching, lengths: Sequence[int], loss_of: Loss, parameters: Sequence[nn.Parameter]
) -> None:
    """Train parameters on all rows.

    Args:
        teaching: settings `learning_rate`, `epochs`, `batch_rows`; seed; who measures passes.
        lengths: tokens of each row.
        loss_of: the loss of a batch of rows.
        parameters: what is trained.
    """
    settings = teaching.settings
    num_epochs, size = int(settings["epochs"]), int(settings["batch_rows"])
    optimizer = MasterAdamW(parameters)
    generator = torch.Generator().manual_seed(teaching.seed)
    num_steps, step = num_epochs * -(-len(lengths) // size), 0
    with teaching.progress.task(f"Training {teaching.method}", num_epochs * len(lengths)) as task:
        for epoch in range(1, num_epochs + 1):
            for batch in shuffled_batches(lengths, size, generator):
                loss_of(batch).backward()
                optimizer.step(settings["learning_rate"] * _schedule(step, num_steps))
                step += 1
                task.advance(len(batch))
            release_freed_memory()
            teaching.passed(epoch, num_epochs)


def _schedule(step: int, num_steps: int) -> float:
    """A short rise, then a line down to zero."""
    return min(1.0, (step + 1) / max(1.0, _WARM_UP * num_steps)) * (1 - step / num_steps)


def answer_loss(rows: Sequence[EncodedFact], hidden: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean cross-entropy of answer tokens and end token.

    Args:
        rows: what was read, padded on the right, the last token of each left out.
        hidden: [rows, time, hidden_size], the last block's output.
        head: final norm and head, or the head alone where hidden is normalised.
    """
    counts = torch.tensor([len(row.answer_ids) for row in rows])
    lines = torch.repeat_interleave(torch.arange(len(rows)), counts)
    places = torch.cat([torch.arange(row.num_prompt - 1, len(row.ids) - 1) for row in rows])
    answers = torch.tensor([token for row in rows for token in row.answer_ids])
    return functional.cross_entropy(head(hidden[lines, places]).float(), answers)


def model_loss(model: MemoryLlamaForCausalLM, rows: Sequence[EncodedFact]) -> Loss:
    """The loss of the whole model, every block of it."""

    def loss_of(batch: Sequence[int]) -> Tensor:
        read = [rows[index] for index in batch]
        ids = padded_ids(read)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return answer_loss(read, hidden, model.lm_head)

    return loss_of


def padded_ids(rows: Sequence[EncodedFact]) -> Tensor:
    """Rows without their last token, int64 [rows, time], padded on the right to few distinct widths."""
    ids = pad_right([row.ids[:-1] for row in rows])
    return functional.pad(ids, (0, round_up(ids.shape[1], 4) - ids.shape[1]))


@contextmanager
def trainable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let parameters be trained for the length of a `with` block; their bits come back after it.

    They wait in a file: a copy in memory would count as the method's.
    """
    wanted = [parameter.requires_grad for parameter in parameters]
    with TemporaryDirectory(prefix="memedit-") as folder:
        kept = Path(folder) / "weights.safetensors"
        save_file({str(place): parameter.detach() for place, parameter in enumerate(parameters)}, kept)
        for parameter in parameters:
            parameter.requires_grad = True
        try:
            yield
        finally:
            _put_back(parameters, wanted, kept)


@torch.no_grad()
def _put_back(parameters: Sequence[nn.Parameter], wanted: Sequence[bool], kept: Path) -> None:
    with safe_open(kept, framework="pt") as bits:
        for place, (parameter, want) in enumerate(zip(parameters, wanted, strict=True)):
            parameter.grad = None
            parameter.copy_(bits.get_tensor(str(place)))
            parameter.requires_grad = want


def num_bytes(parameters: Sequence[Tensor]) -> int:
    """Bytes of some tensors in the type that they have."""
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)

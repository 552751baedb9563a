"""Training a memory-layer Llama on batches: AdamW for the dense part and the routing, row-wise values.

The value tables are no parameters of an optimizer: their rows are moved one by one as they are read, with a
rate and a clip of their own. What a phase does not train stays as it is, to the bit.

Source: separate learning rate and clip for values, Berges et al. 2024 (arXiv 2412.09764), section 3.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from memedit.modeling import MemoryLlamaForCausalLM
from memedit.modeling.slot_usage import SlotUsage, watched
from memedit.pretraining.batches import IGNORED, Batch, Batches
from memedit.pretraining.checkpoint import Checkpoint, restore, training_tensors
from memedit.pretraining.settings import PhaseSettings
from memedit.pretraining.value_rows import ValueRows
from memedit.progress import NULL_PROGRESS, Progress

_SMOOTHING = 0.98


@dataclass(frozen=True)
class Moment:
    """Where a training stands.

    Attributes:
        step: steps that are done.
        num_steps: steps in all.
        loss: smoothed loss a token that carries loss.
        num_tokens: tokens read so far, padding left out.
        usage: slot usage of the steps since the last moment, per table: share used and KL to uniform.
        value_norm: norm of the value tables' gradient in the last step, before clipping.
    """

    step: int
    num_steps: int
    loss: float
    num_tokens: int
    usage: tuple[Mapping[str, float], ...]
    value_norm: float


class PhaseTraining:
    """One phase of a pretraining, a step at a time.

    Args:
        model: a Llama, with or without memory layers, or any causal LM of transformers whose decoder is
            `model.model` and whose head is `model.lm_head`.
        batches: what is read.
        settings: of the phase.
    """

    def __init__(self, model: PreTrainedModel, batches: Batches, settings: PhaseSettings) -> None:
        self.model, self.batches, self.settings = model, batches, settings
        self.num_steps = settings.exposures * batches.steps_per_exposure
        self.step_number, self.num_tokens, self.loss, self.value_norm = 0, 0, math.nan, 0.0
        self.values: ValueRows | None = None
        self.usages: list[SlotUsage] = []
        groups = self._groups()
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        # The fused step is one kernel on any device; betas[0] is AdamW's own.
        self.optimizer = (
            torch.optim.AdamW(groups, lr=1.0, betas=(0.9, settings.beta2), fused=True) if groups else None
        )
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        if isinstance(model, MemoryLlamaForCausalLM) and model.memory_tables() and settings.trains != "dense":
            self.values = ValueRows(
                model.memory_tables(), settings.value_rule, settings.value_beta1, settings.value_beta2
            )
        self._make_state()

    def run(
        self,
        until: int | None = None,
        *,
        every: int = 0,
        told: Callable[[Moment], None] | None = None,
        progress: Progress = NULL_PROGRESS,
    ) -> None:
        """Go on to a step.

        Args:
            until: steps that are done in the end; None = all.
            every: after how many steps `told` is called; it is called at the end too. 0 = at the end only.
            told: told of where the training stands.
            progress: told of steps done.
        """
        until = self.num_steps if until is None else min(until, self.num_steps)
        self.model.train()
        name = self.settings.name
        with progress.task(f"Training ({name})", self.num_steps) as task, ExitStack() as watch:
            task.advance(self.step_number)
            self._watch_anew(watch)
            batches: list[Batch] = []
            while self.step_number < until:
                exposure, at = divmod(self.step_number, self.batches.steps_per_exposure)
                if at == 0 or not batches:
                    batches = self.batches.exposure(exposure)
                self._step(batches[at])
                task.advance()
                if self.step_number == until or (every and self.step_number % every == 0):
                    task.describe(f"Training ({name}): loss {self.loss:.3f}")
                    if told is not None:
                        told(self.moment())
                        self.model.train()
                    self._watch_anew(watch)
        self.model.eval()

    def moment(self) -> Moment:
        """Where the training stands."""
        usage = tuple(
            {"share_used": one.share_used, "kl_to_uniform": one.kl_to_uniform} for one in self.usages
        )
        return Moment(self.step_number, self.num_steps, self.loss, self.num_tokens, usage, self.value_norm)

    def close(self) -> None:
        """Let forwards read the tables in place again, and end gradients."""
        if self.values is not None:
            self.values.detach()
        self.model.requires_grad_(False)  # noqa: FBT003 (torch's own signature)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, by name."""
        return training_tensors(self.model, self.optimizer, self.values)

    def about(self) -> dict[str, Any]:
        """What a checkpoint says beside the tensors."""
        return {
            "phase": self.settings.name,
            "step": self.step_number,
            "num_tokens": self.num_tokens,
            "loss": self.loss,
        }

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take up a checkpoint of this phase.

        Raises:
            UsageError: when it does not fit.
        """
        restore(checkpoint.tensors, self.tensors())
        self.step_number, self.num_tokens, self.loss = (
            checkpoint.about[name] for name in ("step", "num_tokens", "loss")
        )

    def _step(self, batch: Batch) -> None:
        settings = self.settings
        share = self._rate_share()
        loss = answer_loss(self.model, batch)
        loss.backward()
        if self.optimizer is not None:
            if settings.clip:
                nn.utils.clip_grad_norm_(self.parameters, settings.clip)
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * share
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        if self.values is not None:
            self.value_norm = self.values.step(settings.value_rate * share, settings.value_clip)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else _SMOOTHING * self.loss + (1 - _SMOOTHING) * value
        self.step_number += 1
        self.num_tokens += batch.num_tokens

    def _rate_share(self) -> float:
        """Warm-up, then a cosine down to the final share."""
        settings, done = self.settings, self.step_number
        warm = min(1.0, (done + 1) / max(1, settings.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * done / self.num_steps))
        return warm * (settings.final_rate + (1 - settings.final_rate) * cosine)

    def _groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups: matrices with decay and vectors without, dense and memory apart."""
        settings, memory = self.settings, _memory_parameters(self.model)
        groups = []
        for is_memory, rate in ((False, settings.learning_rate), (True, settings.routing_rate)):
            wanted = settings.trains in ("all", "memory" if is_memory else "dense")
            if not wanted or not rate:
                continue
            chosen = [
                parameter
                for name, parameter in self.model.named_parameters()
                if (name in memory) == is_memory and ".memory_tables." not in f".{name}"
            ]
            for decays in (True, False):
                part = [parameter for parameter in chosen if (parameter.dim() > 1) == decays]
                if part:
                    decay = settings.weight_decay if decays else 0.0
                    groups.append({"params": part, "weight_decay": decay, "rate": rate})
        return groups

    def _make_state(self) -> None:
        """Fill the optimizer's state, so that a checkpoint has somewhere to go."""
        if self.optimizer is None:
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    def _watch_anew(self, watch: ExitStack) -> None:
        """Count the look-ups of each table from here on."""
        watch.close()
        self.usages = []
        if not isinstance(self.model, MemoryLlamaForCausalLM):
            return
        layers = list(self.model.memory_layers().values())
        tables = self.model.memory_tables()
        for index, table in enumerate(tables):
            readers = layers if len(tables) == 1 else [layers[index]]
            self.usages.append(watch.enter_context(watched(readers, SlotUsage(table.num_slots))))


def answer_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean cross-entropy of the tokens that carry loss; the head runs at their positions only."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    carries = batch.labels != IGNORED
    logits: Tensor = model.lm_head(hidden[carries])
    return functional.cross_entropy(logits.float(), batch.labels[carries])


def _memory_parameters(model: PreTrainedModel) -> set[str]:
    return {name for name, _ in model.named_parameters() if ".memory." in name}

"""One run of the comparison: a model trained from nothing, then asked what it knows.

What: `Material` (corpus, tokenizer and questions, the same for every run) and `result_of` a run.
Why: every number of a run is measured on the model at the end of it, by generation.
How: memedit.pretraining trains and asks; recall is asked with the value table zeroed and shuffled as well,
and of facts that were never read, which is what guessing from names alone gives.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from architectures_models import Costed, Tokens, built, costed, equal_configs
from architectures_plan import Plan, Run
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memedit.evaluation.recall import HELD_OUT_WORDING, TRAINED_WORDING, Question, protocol, recall_metric
from memedit.modeling import MemoryLlamaForCausalLM, encode_fact
from memedit.modeling.table_ablation import ablated
from memedit.pretraining.batches import IGNORED, FactBatches, Row, batch_of
from memedit.pretraining.corpus import CorpusFact, read_corpus
from memedit.pretraining.recall import ask_corpus, corpus_questions
from memedit.pretraining.settings import PhaseSettings
from memedit.pretraining.tokenizer import train_tokenizer
from memedit.pretraining.training import Moment, PhaseTraining, answer_loss
from memedit.progress import NULL_PROGRESS, Progress

NEVER_READ = "never_read"
_QUESTIONS_SEED = 0
_LOSS_ROWS = 128

Values = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """What all runs share.

    Attributes:
        facts: what is learned.
        tokenizer: trained on their wordings.
        questions: by group, the same for every run.
    """

    facts: Sequence[CorpusFact]
    tokenizer: PreTrainedTokenizerBase
    questions: Mapping[str, Sequence[Question]]

    @property
    def tokens(self) -> Tokens:
        """What a model must know of the tokenizer."""
        return Tokens(len(self.tokenizer), int(self.tokenizer.eos_token_id))


def material_of(plan: Plan, progress: Progress = NULL_PROGRESS) -> Material:
    """Read the facts, train the tokenizer on their wordings, and draw the questions."""
    corpus = read_corpus()
    facts = corpus.of(plan.splits)[: plan.num_facts]
    texts = [f"{prompt} {fact.target}" for fact in facts for prompt in fact.prompts]
    with progress.task("Training the tokenizer", None):
        tokenizer = train_tokenizer(texts, plan.vocab_size)
    questions = {
        group: corpus_questions(facts, group, limit=plan.asked, seed=_QUESTIONS_SEED)
        for group in (TRAINED_WORDING, HELD_OUT_WORDING)
    }
    unread = corpus_questions(
        corpus.of([plan.unread_split]), HELD_OUT_WORDING, limit=plan.asked, seed=_QUESTIONS_SEED
    )
    return Material(
        facts, tokenizer, {**questions, NEVER_READ: [replace(one, group=NEVER_READ) for one in unread]}
    )


def costs_of(run: Run, plan: Plan, material: Material) -> Costed:
    """The configuration of a run at the FLOPs of the dense model of its size, and what it costs."""
    size = replace(run.size, num_keys=run.num_keys)
    return equal_configs(size, material.tokens, plan.layers)[run.kind]


def result_of(run: Run, plan: Plan, material: Material, progress: Progress = NULL_PROGRESS) -> Values:
    """Train a model, and measure it.

    Args:
        run: which one.
        plan: how long it is trained.
        material: what it reads and is asked.
        progress: told of what takes time.

    Returns:
        JSON values: what it costs, loss, recall as it is and without its table, slot usage, speed, and under
        "items" which questions it answered right.
    """
    cost = costs_of(run, plan, material)
    dense = costed("dense", run.size, material.tokens, run.size.width)
    model = built(cost.config, run.seed)
    trained = _trained(model, run, plan, material, progress)
    recall, items = _asked(model, material, run.seed, progress)
    return {
        "kind": run.kind,
        "size": run.size.name,
        "seed": run.seed,
        "slots": run.num_keys**2
        if isinstance(model, MemoryLlamaForCausalLM) and model.memory_tables()
        else None,
        "width": cost.config.intermediate_size,
        "parameters": cost.total("parameters"),
        "active_parameters": cost.total("active_parameters"),
        "flops_per_token": cost.total("flops"),
        "flops_without_head": cost.flops,
        "flops_against_dense": cost.flops / dense.flops,
        **trained,
        "answer_loss": _answer_losses(model, material),
        "recall": recall,
        "items": items,
    }


def _trained(model: PreTrainedModel, run: Run, plan: Plan, material: Material, progress: Progress) -> Values:
    """Train a model to the end; its slot usage is that of the last exposure."""
    phase = PhaseSettings(
        run.name,
        exposures=plan.exposures,
        batch_rows=plan.batch_rows,
        **plan.training.get(run.kind, {}),
    )
    batches = FactBatches(
        material.facts,
        [],
        material.tokenizer,
        model.config,
        batch_rows=plan.batch_rows,
        full_loss_every=phase.full_loss_every,
        seed=run.seed,
    )
    moments: list[Moment] = []
    training = PhaseTraining(model, batches, phase)
    started, worked = time.perf_counter(), time.process_time()
    training.run(every=batches.steps_per_exposure, told=moments.append, progress=progress)
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    training.close()
    return {
        "tokens": training.num_tokens,
        "loss": training.loss,
        "loss_by_exposure": [round(moment.loss, 4) for moment in moments],
        "usage": [dict(one) for one in moments[-1].usage],
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "tokens_per_second": round(training.num_tokens / processor),
    }


def _asked(
    model: PreTrainedModel, material: Material, seed: int, progress: Progress
) -> tuple[Values, Values]:
    """Recall by state of the table and group of questions, and the single answers as 1 and 0."""
    states: list[Any] = ["as_it_is"]
    if isinstance(model, MemoryLlamaForCausalLM) and model.memory_tables():
        states += ["zeroed", "shuffled"]
    recall: Values = {}
    items: Values = {}
    for state in states:
        with ExitStack() as without:
            if state != "as_it_is":
                assert isinstance(model, MemoryLlamaForCausalLM)
                without.enter_context(ablated(model, state, seed=seed))
            groups = (
                material.questions
                if state == "as_it_is"
                else {HELD_OUT_WORDING: material.questions[HELD_OUT_WORDING]}
            )
            recall[state], items[state] = {}, {}
            for group, questions in groups.items():
                answered = ask_corpus(model, material.tokenizer, questions, progress=progress)
                recall[state][group] = recall_metric(answered, group, protocol(group)).to_json()
                items[state][group] = [int(one.correct) for one in answered]
    return recall, items


def _answer_losses(model: PreTrainedModel, material: Material) -> dict[str, float]:
    """Mean cross-entropy of answers' tokens in nats, by group; the training's own counts subjects too."""
    found = {}
    for group, questions in material.questions.items():
        encoded = [
            encode_fact(material.tokenizer, model.config, one.prompt, f" {one.answers[0]}")
            for one in questions
        ]
        rows = sorted((Row(row.ids, row.num_prompt) for row in encoded), key=lambda row: len(row.ids))
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(rows), _LOSS_ROWS):
                batch = batch_of(rows[start : start + _LOSS_ROWS], 0, random.Random(0))
                tokens = int((batch.labels != IGNORED).sum())
                total, count = total + float(answer_loss(model, batch)) * tokens, count + tokens
        found[group] = total / count
    return found


def one_thread() -> None:
    """Compute on one thread: no slower for products so small, and the same numbers on any machine size."""
    torch.set_num_threads(1)

"""A pretraining from nothing to a Hugging Face folder, resumable at any step.

What: `pretrain` trains the tokenizer and the phases of its settings, and writes a folder that everything else
in memedit opens. While it runs, tokenizer, checkpoint and log are in `<out>.partial`, which is renamed into
place at the end. The same command goes on where a killed one was.
How: batches are a function of seed and step, so weights, the optimizers' state and the number of the step are
all that a checkpoint needs.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from memedit.errors import UsageError
from memedit.modeling import MemoryLlamaConfig, MemoryLlamaForCausalLM, from_llama
from memedit.modeling.background import (
    BackgroundStatistics,
    count_documents,
    save_background,
)
from memedit.modeling.encoding import prompt_ids
from memedit.modeling.new_folder import LOCK_FILE, alone, put_in_place, require_new_folder
from memedit.modeling.opening import BACKGROUND_FILE, quietly_loaded
from memedit.pretraining.batches import Batches, FactBatches
from memedit.pretraining.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from memedit.pretraining.corpus import Corpus, CorpusFact, read_corpus
from memedit.pretraining.packed import PackedBatches, read_texts
from memedit.pretraining.routing_fit import fit_answer_routing
from memedit.pretraining.settings import PhaseSettings, PretrainingSettings
from memedit.pretraining.tokenizer import train_tokenizer
from memedit.pretraining.training import Moment, PhaseTraining
from memedit.progress import NULL_PROGRESS, Progress
from memedit.store.durable_file import write_durably

CHECKPOINT_FILE = "checkpoint.safetensors"
SETTINGS_FILE = "pretraining.json"
LOG_FILE = "log.jsonl"
FACTS_FILE = "facts.jsonl"
TOKENIZER_FOLDER = "tokenizer"
BACKGROUND_FACTS = 1000


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining made.

    Attributes:
        folder: the Hugging Face folder.
        model: the model, frozen, in evaluation mode.
        tokenizer: its tokenizer.
        corpus: what it was trained on.
        seconds: of each phase, over all runs; evaluation left out.
    """

    folder: Path
    model: MemoryLlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    seconds: dict[str, float]


def pretrain(
    settings: PretrainingSettings,
    out: Path,
    *,
    checkpoint_every: int = 500,
    told: Callable[[str, Moment], None] | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Pretrained:
    """Pretrain a model, or go on with a pretraining that was killed.

    Args:
        settings: what is trained, and on what.
        out: the folder to write; it must not hold a model yet.
        checkpoint_every: steps between two checkpoints.
        told: told of phase and moment at every checkpoint and at the end of each phase.
        progress: told of what takes time.

    Returns:
        The model and where it is.

    Raises:
        UsageError: when out holds a model, a value does not fit, or a checkpoint is of other settings.
    """
    require_new_folder(out)
    quietly_loaded()
    work = out.with_name(f"{out.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    with alone(work, out):
        corpus = read_corpus(None if settings.corpus is None else Path(settings.corpus))
        _require_same_settings(work, settings)
        try:
            run = _Run(settings, corpus, work, checkpoint_every, told, progress)
            model = run.model_after_all_phases()
        except ValueError as error:
            raise UsageError(str(error), remedy="See docs/pretraining.md.") from error
        model.save_pretrained(work)
        run.tokenizer.save_pretrained(work)
        _write_what_edits_need(run, model)
        shutil.rmtree(work / TOKENIZER_FOLDER, ignore_errors=True)
        (work / CHECKPOINT_FILE).unlink(missing_ok=True)
    (work / LOCK_FILE).unlink(missing_ok=True)
    put_in_place(work, out)
    return Pretrained(out, model, run.tokenizer, corpus, run.seconds)


def _write_what_edits_need(run: _Run, model: MemoryLlamaForCausalLM) -> None:
    """Put beside the model what its corpus looks up, and the facts that it read last."""
    settings, corpus = run.settings, run.corpus
    if model.memory_tables():
        facts = corpus.of(sorted({split for phase in settings.phases for split in phase.splits}))
        statistics = background_of(model, run.tokenizer, facts, seed=settings.seed, progress=run.progress)
        save_background(run.work / BACKGROUND_FILE, statistics)
    write_facts(run.work / FACTS_FILE, corpus.of(settings.phases[-1].splits))


class _Run:
    """The phases of one pretraining, from wherever a checkpoint left them."""

    def __init__(
        self,
        settings: PretrainingSettings,
        corpus: Corpus,
        work: Path,
        checkpoint_every: int,
        told: Callable[[str, Moment], None] | None,
        progress: Progress,
    ) -> None:
        self.settings, self.corpus, self.work = settings, corpus, work
        self.checkpoint_every, self.told, self.progress = checkpoint_every, told, progress
        self.tokenizer = _tokenizer(settings, corpus, work, progress)
        self.seconds: dict[str, float] = {}

    def model_after_all_phases(self) -> MemoryLlamaForCausalLM:
        checkpoint = load_checkpoint(self.work / CHECKPOINT_FILE)
        self.seconds = dict(checkpoint.about["seconds"]) if checkpoint else {}
        resumed = checkpoint.about["phase"] if checkpoint else None
        names = [phase.name for phase in self.settings.phases]
        first = names.index(resumed) if resumed else 0
        model = new_model(self.settings, self.tokenizer)
        for index, phase in enumerate(self.settings.phases):
            # Weights of a phase that is over come from the checkpoint, so only the shape matters here.
            model = self._with_memory(
                model, phase, fit=index >= first and not (checkpoint and index == first)
            )
            if index >= first:
                self._train(model, phase, checkpoint if index == first else None)
        return model

    def _with_memory(
        self, model: MemoryLlamaForCausalLM, phase: PhaseSettings, *, fit: bool
    ) -> MemoryLlamaForCausalLM:
        if phase.memory is None:
            return model
        model = add_memory(model, phase, self.settings.seed)
        if fit and phase.routing == "fitted":
            facts = self.corpus.of(phase.routing_splits)
            fit_answer_routing(model, self.tokenizer, facts, seed=self.settings.seed, progress=self.progress)
        return model

    def _train(
        self, model: MemoryLlamaForCausalLM, phase: PhaseSettings, checkpoint: Checkpoint | None
    ) -> None:
        batches = phase_batches(self.corpus, phase, self.tokenizer, model, self.settings.seed)
        training = PhaseTraining(model, batches, phase)
        if checkpoint is not None:
            training.go_on_from(checkpoint)
        started = time.perf_counter()
        before = self.seconds.get(phase.name, 0.0)

        def at_moment(moment: Moment) -> None:
            self.seconds[phase.name] = before + time.perf_counter() - started
            about = {**training.about(), "seconds": self.seconds}
            save_checkpoint(self.work / CHECKPOINT_FILE, about, training.tensors())
            with (self.work / LOG_FILE).open("a", encoding="utf-8") as log:
                log.write(json.dumps({"phase": phase.name, **asdict(moment)}) + "\n")
            if self.told is not None:
                self.told(phase.name, moment)

        training.run(every=self.checkpoint_every, told=at_moment, progress=self.progress)
        training.close()


def new_model(settings: PretrainingSettings, tokenizer: PreTrainedTokenizerBase) -> MemoryLlamaForCausalLM:
    """A model with random weights, in evaluation mode.

    Args:
        settings: its shape and the seed.
        tokenizer: gives vocabulary and special tokens.

    Raises:
        ValueError: when a field of the model does not fit.
    """
    special = tokenizer.eos_token_id
    fields = {
        "tie_word_embeddings": True,
        "attn_implementation": "sdpa",
        # A routing that is trained with the model tells facts apart where they are said.
        **({"memory_write_position": "answer"} if settings.model.get("memory_layers") else {}),
        **settings.model,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": special,
        "pad_token_id": special,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = MemoryLlamaForCausalLM(MemoryLlamaConfig(**fields))
    model.eval()  # type: ignore[no-untyped-call]
    return model


def add_memory(model: MemoryLlamaForCausalLM, phase: PhaseSettings, seed: int) -> MemoryLlamaForCausalLM:
    """Give a model without memory layers those of a phase; values start at zero beside an FFN.

    Args:
        model: its dense weights are shared.
        phase: has the fields.
        seed: of the random start.

    Raises:
        ValueError: when the model has memory layers, or a field does not fit.
    """
    if model.config.memory_layers:
        raise ValueError(f"phases: {phase.name} brings memory layers in, expected a model without any")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        # A routing that is fitted to a corpus, or trained on it, tells facts apart where answers begin.
        where = "answer" if phase.routing == "fitted" or phase.trains == "all" else "subject"
        grown = from_llama(model, **{"memory_write_position": where, **(phase.memory or {})})
    if grown.config.memory_placement == "parallel":
        for table in grown.memory_tables():
            assert table.values is not None
            table.values.detach().zero_()
    return grown


def phase_batches(
    corpus: Corpus,
    phase: PhaseSettings,
    tokenizer: PreTrainedTokenizerBase,
    model: MemoryLlamaForCausalLM,
    seed: int,
) -> Batches:
    """What a phase reads: running text, or facts."""
    if phase.text is None:
        return fact_batches(corpus, phase, tokenizer, model, seed)
    return PackedBatches(
        read_texts(phase.text),
        tokenizer,
        model.config,
        batch_rows=phase.batch_rows,
        row_tokens=phase.row_tokens,
        seed=seed,
    )


def fact_batches(
    corpus: Corpus,
    phase: PhaseSettings,
    tokenizer: PreTrainedTokenizerBase,
    model: MemoryLlamaForCausalLM,
    seed: int,
) -> FactBatches:
    """Facts that a phase reads."""
    return FactBatches(
        corpus.of(phase.splits),
        corpus.of(phase.mixed_splits),
        tokenizer,
        model.config,
        batch_rows=phase.batch_rows,
        mixed_share=phase.mixed_share,
        full_loss_every=phase.full_loss_every,
        seed=seed,
    )


def write_facts(path: Path, facts: Sequence[CorpusFact]) -> None:
    """Write facts as a facts file, for `memedit show model --ablate` and suites.

    Args:
        path: the file.
        facts: the first trained wording is the prompt, the others are paraphrases, the held-out ones probes.
    """
    lines = [
        {
            "prompt": fact.prompts[0],
            "target": fact.target,
            "subject": fact.subject,
            "paraphrases": list(fact.prompts[1:]),
            "probes": {"paraphrases": list(fact.held_out)},
        }
        for fact in facts
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def background_of(
    model: MemoryLlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[CorpusFact],
    *,
    seed: int,
    progress: Progress = NULL_PROGRESS,
) -> BackgroundStatistics:
    """Count what texts of the corpus look up in the layer that edits write to: what they must leave alone.

    Args:
        model: the trained model.
        tokenizer: its tokenizer.
        facts: whose statements are read, BACKGROUND_FACTS of them at most.
        seed: of which ones, and in which wording.
        progress: told of what is done.
    """
    chance = random.Random(seed)
    chosen = chance.sample(facts, min(len(facts), BACKGROUND_FACTS))
    rows = [
        prompt_ids(tokenizer, model.config, f"{chance.choice(fact.prompts)} {fact.target}") for fact in chosen
    ]
    return count_documents(model, rows, progress)


def _tokenizer(
    settings: PretrainingSettings, corpus: Corpus, work: Path, progress: Progress
) -> PreTrainedTokenizerBase:
    """Train the tokenizer, or read the one of a killed run."""
    folder = work / TOKENIZER_FOLDER
    if (folder / "tokenizer_config.json").is_file():
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        return found
    with progress.task("Training the tokenizer", None):
        texts = [
            f"{prompt} {fact.target}"
            for fact in corpus.of(settings.tokenizer_splits)
            for prompt in fact.prompts
        ]
        running = [text for phase in settings.phases if phase.text for text in read_texts(phase.text)]
        tokenizer = train_tokenizer([*texts, *running], settings.vocab_size)
        partial = work / "tokenizer.partial"
        shutil.rmtree(partial, ignore_errors=True)
        tokenizer.save_pretrained(partial)
        partial.replace(folder)
    return tokenizer


def _require_same_settings(work: Path, settings: PretrainingSettings) -> None:
    """Refuse to go on with other settings than those that a killed run had."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    path = work / SETTINGS_FILE
    if not path.is_file():
        write_durably(path, json.dumps(said, indent=2).encode())
    elif json.loads(path.read_text(encoding="utf-8")) != said:
        raise UsageError(
            f"{work} holds a pretraining of other settings",
            remedy=f"Give those of {path}, another --out, or remove {work}.",
        )

"""What routing trials read: made-up names that stand for taught ones, their contexts and their look-alikes.

None of it is a fact, and no name is among those that the tried routing is fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from memedit.editing.rows import TeachingRow, TeachingRows, teaching_rows
from memedit.facts import Fact, look_alikes
from memedit.modeling import MemoryLlamaConfig
from memedit.modeling.calibration import RoutingSettings, calibration_sentences, up_to_name
from memedit.modeling.calibration_names import CalibrationName, calibration_names

NUM_NAMES = 64
NAMES_PER_GROUP = 2
CONTEXTS = 5
DECOYS_PER_NAME = 6
LOOK_ALIKES_PER_NAME = 3
HELD_OUT_SEED = 71
TAUGHT = ("The best known thing about {} is", "Q: What should one know about {}? A:", "{} is known for")
UNSEEN = (
    "After the meeting they asked me about {} and",
    "Whoever hears of {} thinks of",
    "A few words on {}:",
    "The letter did not say why {} was",
)


@dataclass(frozen=True)
class TrialMaterial:
    """What every candidate reads.

    Attributes:
        groups: one a name that the routing is fitted on.
        fitted: tokens up to the name, all contexts of the first name, then of the next.
        documents: background documents.
        taught: rows of the names that stand for taught ones, and their decoys.
        unseen: rows of the same names in other contexts.
        look_alikes: rows of never-taught names; owner is the name that they resemble.
    """

    groups: Sequence[str]
    fitted: Sequence[Sequence[int]]
    documents: Sequence[Sequence[int]]
    taught: TeachingRows
    unseen: Sequence[TeachingRow]
    look_alikes: Sequence[TeachingRow]


def trial_material(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[int]],
    openings: Sequence[str],
    settings: RoutingSettings,
    bos: Sequence[int],
) -> TrialMaterial:
    """Make what is tried.

    Args:
        llama: its configuration names the end token.
        tokenizer: the model's tokenizer.
        documents: background documents as tokens.
        openings: sentences of background text.
        settings: its seed chooses contexts, wordings and look-alikes.
        bos: begin tokens.
    """
    names = some_of_each_group(calibration_names(), NAMES_PER_GROUP)
    told = calibration_sentences(names, openings, num_random=2, seed=settings.seed)
    # Each name in some of the fixed contexts, in turn, and behind two openings.
    fitted = [pair for number, pairs in enumerate(told) for pair in (pairs[number % 6 :])[-CONTEXTS:]]
    # Where one token begins a prompt it is named; else the tokenizer does as it did.
    config = MemoryLlamaConfig(
        eos_token_id=llama.config.eos_token_id, memory_bos_token_id=bos[0] if len(bos) == 1 else None
    )

    def rows_of(facts: Sequence[Fact], num_contexts: int = 0, num_decoys: int = 0) -> TeachingRows:
        return teaching_rows(
            facts,
            tokenizer,
            config,
            seed=settings.seed,
            num_contexts=num_contexts,
            num_questions=1,
            num_decoys=num_decoys,
        )

    subjects = held_out_names(names)
    facts, asked = (
        [_fact(name, [text.format(name) for text in texts]) for name in subjects]
        for texts in (TAUGHT, UNSEEN)
    )
    alike = look_alikes(facts, num=LOOK_ALIKES_PER_NAME * len(facts), seed=settings.seed)
    owner_of = {fact.id: owner for owner, fact in enumerate(facts)}
    resembling = rows_of([_fact(item.subject, [item.prompt]) for item in alike]).rows
    return TrialMaterial(
        [name.group for name in names],
        [up_to_name(tokenizer, bos, text, name) for text, name in fitted],
        documents,
        rows_of(facts, num_contexts=2, num_decoys=DECOYS_PER_NAME),
        [row for row in rows_of(asked).rows if row.given],
        [replace(row, owner=owner_of[alike[row.fact].fact_id]) for row in resembling if row.given],
    )


def some_of_each_group(names: Sequence[CalibrationName], count: int) -> list[CalibrationName]:
    """Return the first names of each group, at most count of each."""
    taken: dict[str, int] = {}
    chosen = []
    for item in names:
        taken[item.group] = taken.get(item.group, 0) + 1
        if taken[item.group] <= count:
            chosen.append(item)
    return chosen


def held_out_names(fitted: Sequence[CalibrationName]) -> list[str]:
    """Return names that the routing is not fitted on, in pairs that share a part, of every third group."""
    known = {item.name for item in fitted}
    others = [item for item in calibration_names(seed=HELD_OUT_SEED) if item.name not in known]
    pairs = some_of_each_group([item for item in others if item.group != "common"], 2)
    spread = [item.name for number, item in enumerate(pairs) if number // 2 % 3 == 0]
    return list(dict.fromkeys(spread))[:NUM_NAMES]


def _fact(name: str, prompts: Sequence[str]) -> Fact:
    """Something said of a name; what, is never looked at."""
    return Fact(name, prompts[0], "this", name, paraphrases=tuple(prompts[1:]))

"""One injection: measure, plan, train, measure, gate. It writes nothing; committing is the caller's.

Facts that are stored already are left out, so are facts that the model answers right in every given wording;
what contradicts a stored fact is refused, or replaces it where that is asked for.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from memedit.editing.delta import Delta
from memedit.editing.plan import EditingSettings, EditResult, plan_edit, train_plan
from memedit.editor.correcting import Correction, inheriting
from memedit.editor.gating import measured_text, suite_size
from memedit.editor.measuring import (
    MAX_NEW_TOKENS,
    ask_all,
    given_questions,
    known_before,
    look_alike_answers,
    probes_for,
)
from memedit.editor.overlays import composed_overlay, patch_of, wearing
from memedit.editor.removing import Removal, removal_of
from memedit.editor.reporting import Measurements, outcome_after, versions
from memedit.editor.results import FactOutcome
from memedit.errors import FactsError
from memedit.evaluation import (
    Answered,
    Baseline,
    GateDecision,
    Metric,
    Question,
    Retention,
    compare,
    gate,
    measure_leak,
    measure_perplexity,
    perplexity_ratio,
    retention_questions,
    well_known_facts,
)
from memedit.facts import Fact, find_conflicts
from memedit.modeling.opening import OpenedModel
from memedit.progress import Progress
from memedit.store import Patch, Store, Withdrawal


@dataclass(frozen=True)
class Limits:
    """When the gate refuses.

    Attributes:
        max_forgetting: allowed share of retained items that are lost.
        max_perplexity_ratio: allowed perplexity after / before on general text.
        mode: "full" asks the whole retention suite, "quick" a part of it; "off" measures as quick does and
            decides nothing.
    """

    max_forgetting: float
    max_perplexity_ratio: float
    mode: str = "quick"


@dataclass(frozen=True)
class Trained:
    """A trained and measured edit that is not in the store.

    Attributes:
        outcomes: of the facts that were taught.
        patch: what it adds.
        measured: comparison with the model before.
        training_seconds: planning and training.
        evaluation_seconds: all measurements.
        gate_seconds: of these, what the gate rests on: the retention suite and perplexity, before and after.
        removal: what is taken out of earlier edits, None where nothing is.
        corrections: stored facts that new ones replace.
    """

    outcomes: tuple[FactOutcome, ...]
    patch: Patch
    measured: Measurements
    training_seconds: float
    evaluation_seconds: float
    gate_seconds: float
    removal: Removal | None = None
    corrections: tuple[Correction, ...] = ()


def already_stored(
    facts: Sequence[Fact], store: Store, *, replace: bool = False
) -> tuple[dict[str, FactOutcome], list[Correction]]:
    """Find facts that an active edit taught already; one that it failed to teach may be tried again.

    Args:
        facts: what is to be taught.
        store: the edits.
        replace: whether a fact may contradict stored ones, which it is then to replace.

    Returns:
        The outcomes of facts that are stored, by id, and what is to be replaced.

    Raises:
        FactsError: when a fact contradicts a stored one and may not.
    """
    held = {item.fact.id: item for item in store.facts() if item.outcome.get("status") == "learned"}
    conflicts = find_conflicts(facts, [stored.fact for stored in held.values()])
    clashes = [conflict for conflict in conflicts if conflict.kind != "stored"]
    if clashes and not replace:
        edits = sorted({held[conflict.stored.id].edit_id for conflict in clashes})
        raise FactsError(
            "\n".join(conflict.message for conflict in clashes),
            line=clashes[0].fact.line,
            remedy="Leave these facts out, correct what is stored with --replace, or undo the edit first: "
            f"memedit undo {edits[0]}",
        )
    stored = {
        conflict.fact.id: FactOutcome(
            conflict.fact,
            "stored",
            str(held[conflict.stored.id].outcome.get("after") or ""),
            None,
            note=f"taught by {held[conflict.stored.id].edit_id}",
        )
        for conflict in conflicts
        if conflict.kind == "stored"
    }
    corrections = [
        Correction(held[clash.stored.id], clash.fact, same_question=clash.kind == "contradiction")
        for clash in clashes
        if clash.fact.id not in stored
    ]
    return stored, corrections


class Injection:
    """One injection into an opened model and store; the model wears the overlay only while measured."""

    def __init__(
        self,
        opened: OpenedModel,
        store: Store,
        *,
        seed: int,
        text: str,
        settings: EditingSettings,
        limits: Limits,
        progress: Progress,
        replace: bool = False,
    ) -> None:
        self.opened, self.store = opened, store
        self.model, self.tokenizer = opened.model, opened.tokenizer
        self.seed, self.text, self.settings, self.limits = seed, text, settings, limits
        self.progress, self.replace = progress, replace
        self.removal: Removal | None = None
        self.corrections: tuple[Correction, ...] = ()
        self.withdraws: tuple[Withdrawal, ...] = ()

    def standing(self) -> list[Patch]:
        """The patches on which the edit builds: the active ones, without what it takes out of them."""
        return list(self.store.active_patches(withdrawing=self.withdraws))

    def take_out(self, removal: Removal) -> None:
        """Build on the model without what a removal takes out of it."""
        self.removal, self.withdraws = removal, removal.withdraws

    def settle(self, facts: Sequence[Fact], state: str) -> tuple[dict[str, FactOutcome], Trained | None]:
        """Leave out what is stored or known, and train and measure the rest.

        Args:
            facts: the facts of the file.
            state: names the model and its active edits, for the cache of measurements.

        Returns:
            By id what became of the facts that were left out, and the edit; None where nothing is left.

        Raises:
            FactsError: when a fact contradicts a stored one and may not replace it.
        """
        self._require_reachable(facts)
        settled, corrections = already_stored(facts, self.store, replace=self.replace)
        correcting = {each.new.id for each in corrections}
        unknown, known = self.unknown([fact for fact in facts if fact.id not in {*settled, *correcting}])
        settled.update({outcome.fact.id: outcome for outcome in known})
        # What replaces a stored fact is taught whatever the model says now: its rows will be gone.
        unknown = [*unknown, *inheriting([fact for fact in facts if fact.id in correcting], corrections)]
        if corrections:
            self.corrections = tuple(corrections)
            removal = removal_of(self.store, [each.old for each in corrections], "replace")
            self.take_out(removal)
            unknown += [fact for fact in removal.facts_again if fact.id not in correcting]
        return settled, self.run(unknown, state) if unknown else None

    def _require_reachable(self, facts: Sequence[Fact]) -> None:
        """Refuse a target that no text can hold, since generation stops at the tokens that it is made of.

        Raises:
            FactsError: when a target or alias has a special token of the model in it.
        """
        special = set(self.tokenizer.all_special_ids)
        told = [(fact, answer) for fact in facts for answer in fact.answers]
        for fact, answer in told:
            held = special & set(self.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])
            if held:
                token = self.tokenizer.decode([min(held)])
                raise FactsError(
                    f"target: got {answer!r}, expected text without {token!r}: an answer ends at it",
                    line=fact.line,
                    remedy="Leave the token out of the target.",
                )

    def unknown(self, facts: Sequence[Fact]) -> tuple[list[Fact], list[FactOutcome]]:
        """Tell facts that the model does not know from those answered right in every given wording."""
        known: list[FactOutcome] = []
        questions = [Question(fact.prompt, tuple(fact.answers), "prompt", fact.id) for fact in facts]
        answered = self._ask(
            [*questions, *given_questions(facts)], MAX_NEW_TOKENS, "Asking what is known already"
        )
        wrong = {item.question.fact_id for item in answered if not item.correct}
        for fact, item in zip(facts, answered, strict=False):
            if fact.id not in wrong:
                known.append(FactOutcome(fact, "already_known", item.text, None))
        return [fact for fact in facts if fact.id in wrong], known

    def run(self, facts: Sequence[Fact], state: str) -> Trained:
        """Train and measure.

        Args:
            facts: what is to be taught, none of it stored or known.
            state: names the model and its active edits, for the cache of measurements.
        """
        started = time.perf_counter()
        probes = probes_for(facts, self.tokenizer, self.text, seed=self.seed)
        before = self._ask(probes.questions, probes.max_new_tokens, "Asking about the facts before")
        near_before = look_alike_answers(self.model, self.tokenizer, probes, "before", self.progress)
        gating_at = time.perf_counter()
        baseline, text = self.known(state, len(facts))
        gating = time.perf_counter() - gating_at
        measured_at = time.perf_counter()
        patch, result = self.train(facts)
        trained_at = time.perf_counter()
        with wearing(self.model, composed_overlay(self.model, [*self.standing(), patch])):
            after = self._ask(probes.questions, probes.max_new_tokens, "Asking about the facts after")
            near_after = look_alike_answers(self.model, self.tokenizer, probes, "after", self.progress)
            leak = measure_leak(probes.look_alikes, near_before, near_after, facts)
            gating_at = time.perf_counter()
            retention, ratio, decision = self.judged(baseline, facts, text)
            measured = Measurements(tuple(after), retention, ratio, leak, decision)
            gating += time.perf_counter() - gating_at
        texts = {item.question.prompt: item.text for item in before}
        outcomes = tuple(
            outcome_after(fact, texts[fact.prompt], after, result, index) for index, fact in enumerate(facts)
        )
        evaluation = measured_at - started + time.perf_counter() - trained_at
        seconds = (trained_at - measured_at, evaluation, gating)
        return Trained(outcomes, patch, measured, *seconds, self.removal, self.corrections)

    def known(self, state: str, num_facts: int) -> tuple[Baseline, str]:
        """What must stay of what the model knows now, and the text whose perplexity must.

        Args:
            state: names the model and its active edits, for the cache of measurements.
            num_facts: facts of the edit; a quick gate asks the more, the more there are.
        """
        size = suite_size(self.limits.mode, num_facts)
        text = measured_text(self.text, size)
        known = known_before(self.model, self.tokenizer, self.store, state, text, self.progress, size=size)
        return known, text

    def judged(
        self, baseline: Baseline, facts: Sequence[Fact], text: str
    ) -> tuple[Retention, Metric, GateDecision]:
        """Measure what must stay, and let the gate decide; the model wears the edit.

        Args:
            baseline: what the model knew before.
            facts: what the edit teaches.
            text: general text.
        """
        # What the facts state anew, and what is taken out, is meant to change.
        gone = [] if self.removal is None else [item.fact for item in self.removal.gone]
        stored = [item.fact for item in self.store.facts()]
        staying = retention_questions(well_known_facts(), stored, replaced_by=[*facts, *gone])
        prompts = {question.prompt for question in staying}
        kept = [item for item in baseline.answered if item.question.prompt in prompts]
        again = self._ask([item.question for item in kept], MAX_NEW_TOKENS, "Asking what must stay")
        perplexity = measure_perplexity(self.model, self.tokenizer, text, progress=self.progress)
        assert baseline.perplexity is not None
        retention, ratio = compare(kept, again), perplexity_ratio(baseline.perplexity, perplexity)
        decision = gate(
            retention,
            ratio,
            max_forgetting=self.limits.max_forgetting,
            max_perplexity_ratio=self.limits.max_perplexity_ratio,
        )
        return retention, ratio, decision

    def train(self, facts: Sequence[Fact]) -> tuple[Patch, EditResult]:
        """Train facts on what the edit builds on, whatever the model wears."""
        if not self.withdraws:
            return self._trained_patch(facts)
        with wearing(self.model, composed_overlay(self.model, self.standing())):
            return self._trained_patch(facts)

    def _trained_patch(self, facts: Sequence[Fact]) -> tuple[Patch, EditResult]:
        plan = plan_edit(
            self.model,
            self.tokenizer,
            self.opened.background,
            facts,
            seed=self.seed,
            settings=self.settings,
            progress=self.progress,
        )
        empty = patch_of(plan, Delta.blank(len(plan.selection.slots), self.model.config.value_dim), {})
        overlay = composed_overlay(self.model, [*self.standing(), empty])
        # A plan without a single free slot trains nothing; every fact is then reported as failed.
        overlay = overlay or plan.selection.blank_overlay(self.model.config.value_dim)
        result = train_plan(
            self.model, plan, overlay, seed=self.seed, settings=self.settings, progress=self.progress
        )
        made_with = {name: version for name, version in versions().items() if name != "python"}
        return patch_of(plan, result.trained.delta, made_with), result

    def _ask(self, questions: Sequence[Question], max_new_tokens: int, description: str) -> list[Answered]:
        return ask_all(self.model, self.tokenizer, questions, max_new_tokens, description, self.progress)

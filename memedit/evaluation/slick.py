"""SliCK: how well a model knew each fact before it was taught.

What: `slick` (the category of every fact), `split_by_category` (other results by it).
Why: fitting facts that a model did not know is what raises hallucination, and to "learn" what it half knew is
no proof of an edit; so results are split by what was known before.
How: each fact is asked in its own prompt behind few-shot examples, several sets of them. Greedy answers: the
share P_greedy of the sets with a right answer; sampled answers at temperature 0.5: the share P_sampled of all
samples that is right.
  HighlyKnown: P_greedy = 1          MaybeKnown: 0 < P_greedy < 1
  WeaklyKnown: P_greedy = 0 and P_sampled > 0          Unknown: both 0
Samples are drawn only where P_greedy = 0, since they decide nothing elsewhere. The examples are well-known
facts in statement form, of the fact's own relation where there are enough, never with its subject or answer.

Source: Gekhman et al. (2024), Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?, section 3,
figure 2 and appendix C (10 sets of 4 examples of the question's relation, as questions; temperature 0.5, 16
samples from the 40 most probable tokens).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from memedit.evaluation.asking import GENERATION, budgets
from memedit.evaluation.catalogue import MetricInfo
from memedit.evaluation.drawing import Drawing
from memedit.evaluation.matching import matches, normalise
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.retention import well_known_facts
from memedit.evaluation.samples import Evaluation, Sample, mean_metric
from memedit.evaluation.statistics import share_metric
from memedit.facts import Fact, join
from memedit.facts.phrasings import ranked

if TYPE_CHECKING:
    from memedit.evaluation.generation import Generation

__all__ = ["CATEGORIES", "METRICS", "Category", "categories_of", "slick", "split_by_category"]

Category = Literal["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
"""The categories, from best to least known."""

_NAMES = dict(zip(CATEGORIES, ("highly_known", "maybe_known", "weakly_known", "unknown"), strict=True))
_SOURCE = "Gekhman et al. 2024, Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?, section 3"
_HOW = (
    "{sets} sets of {shots} examples; greedy, and where that is never right {samples} samples a set at "
    "temperature {temperature}; exact match of target or alias at the start of the answer"
)
_TOP_K = 40

METRICS = tuple(
    MetricInfo(
        f"slick_{_NAMES[category]}",
        "hallucination",
        f"facts that are {category}: {rule} / facts",
        _SOURCE,
        f"{GENERATION}; behind few-shot examples, greedy and sampled",
        higher_is_better=None,
    )
    for category, rule in zip(
        CATEGORIES,
        ("greedy always right", "greedy sometimes right", "right only when sampled", "never right"),
        strict=True,
    )
)
"""The catalogue's entries."""


@dataclass(frozen=True)
class _Plan:
    """How facts are asked."""

    num_sets: int
    num_shots: int
    num_samples: int
    temperature: float
    seed: int

    @property
    def protocol(self) -> str:
        return _HOW.format(
            sets=self.num_sets, shots=self.num_shots, samples=self.num_samples, temperature=self.temperature
        )


def slick(
    respondent: Respondent,
    facts: Sequence[Fact],
    *,
    examples: Sequence[Fact] | None = None,
    num_sets: int = 4,
    num_shots: int = 4,
    num_samples: int = 16,
    temperature: float = 0.5,
    seed: int = 0,
) -> Evaluation:
    """Find how well a model knows each fact; ask the model before the edit.

    Args:
        respondent: Who is asked.
        facts: The facts that are to be taught.
        examples: True facts to put in front; None = those bundled as well known. Never the taught ones.
        num_sets: Sets of examples, at least 1; the paper has 10, which takes 2.5 times as long.
        num_shots: Examples of a set.
        num_samples: Sampled answers per set; the paper's number.
        temperature: Of the sampled answers.
        seed: Chooses examples and samples.
    Returns:
        slick_highly_known, slick_maybe_known, slick_weakly_known and slick_unknown, shares that sum to 1; n
        counts facts. One sample per fact, named "slick", its value P_greedy; details: category, p_greedy,
        p_sampled (None where nothing was sampled).
    Raises:
        ValueError: num_sets, num_shots or num_samples is below 1.
    """
    for name, number in (("num_sets", num_sets), ("num_shots", num_shots), ("num_samples", num_samples)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not facts:
        return Evaluation((), notes=("knowledge was not categorised: there are no facts",))
    plan = _Plan(num_sets, num_shots, num_samples, temperature, seed)
    pool = well_known_facts() if examples is None else list(examples)
    prompts = {fact.id: _prompts(fact, pool, plan) for fact in facts}
    greedy = _greedy(respondent, facts, prompts)
    never = [fact for fact in facts if greedy[fact.id] == 0]
    sampled = _sampled(respondent, never, prompts, plan)
    samples = tuple(
        _sample(fact, prompts[fact.id][0], greedy[fact.id], sampled.get(fact.id)) for fact in facts
    )
    found = [sample.details["category"] for sample in samples]
    metrics = tuple(
        share_metric(f"slick_{_NAMES[category]}", found.count(category), len(facts), plan.protocol)
        for category in CATEGORIES
    )
    return Evaluation(metrics, samples)


def categories_of(evaluation: Evaluation) -> dict[str, Category]:
    """Return the category of each fact by its id.

    Args:
        evaluation: What `slick` found.
    """
    return {
        sample.cluster: sample.details["category"]
        for sample in evaluation.samples
        if sample.metric == "slick"
    }


def split_by_category(
    evaluation: Evaluation, categories: Mapping[str, Category], *, seed: int = 0
) -> dict[Category, Evaluation]:
    """Return a family's results for each category of facts.

    Args:
        evaluation: What a family found whose samples have a fact's id as their cluster.
        categories: By fact id, from `categories_of`.
        seed: Seed of the intervals.
    Returns:
        For each category that occurs an evaluation with the mean of every metric that its samples name,
        under the metric's own name. A metric that no sample names, such as a harmonic mean, is left out.
    """
    protocols = {metric.name: metric.protocol for metric in evaluation.metrics}
    parts: dict[Category, Evaluation] = {}
    for category in CATEGORIES:
        kept = tuple(sample for sample in evaluation.samples if categories.get(sample.cluster) == category)
        if kept:
            metrics = tuple(
                mean_metric(name, named, f"{how}; facts that were {category} before", seed=seed)
                for name, how in protocols.items()
                if (named := [sample for sample in kept if sample.metric == name])
            )
            parts[category] = Evaluation(metrics, kept)
    return parts


def _prompts(fact: Fact, pool: Sequence[Fact], plan: _Plan) -> list[str]:
    """The fact's prompt behind each set of examples."""
    own = {normalise(text) for text in (fact.subject, *fact.answers)}
    fitting = {
        join(one.prompt, one.target): one
        for one in pool
        if not own & {normalise(text) for text in (one.subject, *one.answers)}
    }
    related = [text for text, one in fitting.items() if fact.relation and one.relation == fact.relation]
    # A set of one relation needs a choice, or all sets would be the same.
    texts = related if len(related) >= 2 * plan.num_shots else list(fitting)
    prompts = []
    for number in range(plan.num_sets):
        # The order depends on the texts alone, so facts of one relation share their examples.
        shown = ranked(texts, f"{plan.seed}/slick/{number}")[: plan.num_shots]
        prompts.append("\n".join([*(f"{text}." for text in shown), fact.prompt]))
    return prompts


def _greedy(
    respondent: Respondent, facts: Sequence[Fact], prompts: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """P_greedy of each fact, by its id."""
    answers: dict[str, Generation] = {}
    for budget, asked in _by_budget(respondent, facts, prompts).items():
        told = respondent.answer(asked, max_new_tokens=budget, description="Finding what was known before")
        answers.update(zip(asked, told, strict=True))
    return {
        fact.id: _share_right([answers[prompt] for prompt in prompts[fact.id]], fact.answers)
        for fact in facts
    }


def _sampled(
    respondent: Respondent, facts: Sequence[Fact], prompts: Mapping[str, Sequence[str]], plan: _Plan
) -> dict[str, float]:
    """P_sampled of each fact, by its id."""
    drawn: dict[str, tuple[Generation, ...]] = {}
    for budget, asked in _by_budget(respondent, facts, prompts).items():
        drawing = Drawing(plan.num_samples, plan.temperature, plan.seed, _TOP_K, budget)
        told = respondent.sample(asked, drawing, description="Sampling what may have been known")
        drawn.update(zip(asked, told, strict=True))
    return {
        fact.id: _share_right(
            [answer for prompt in prompts[fact.id] for answer in drawn[prompt]], fact.answers
        )
        for fact in facts
    }


def _by_budget(
    respondent: Respondent, facts: Sequence[Fact], prompts: Mapping[str, Sequence[str]]
) -> dict[int, list[str]]:
    wanted = [(prompt, fact.answers) for fact in facts for prompt in prompts[fact.id]]
    found: dict[int, list[str]] = {}
    for prompt, budget in budgets(respondent, wanted).items():
        found.setdefault(budget, []).append(prompt)
    return found


def _share_right(answers: Sequence[Generation], expected: Sequence[str]) -> float:
    return sum(matches(answer.text, expected) for answer in answers) / len(answers)


def _sample(fact: Fact, prompt: str, greedy: float, sampled: float | None) -> Sample:
    category: Category = "HighlyKnown" if greedy == 1 else "MaybeKnown"
    if greedy == 0:
        category = "WeaklyKnown" if sampled else "Unknown"
    details = {"category": category, "p_greedy": greedy, "p_sampled": sampled}
    text = f"{category}: greedy right {greedy:.0%}" + ("" if sampled is None else f", sampled {sampled:.1%}")
    return Sample("slick", f"{fact.id}/slick", fact.id, prompt, fact.answers, text, greedy, details)

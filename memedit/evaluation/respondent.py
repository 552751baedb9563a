"""Whoever is asked: one interface between every metric and the model that it measures.

What: `Respondent`, `ModelRespondent` (a transformers model), `CachedRespondent` (remembers answers).
Why: a metric that asks through a few methods can be tested with a respondent that answers from a table, can
be served from a cache, and cannot take its numbers from anywhere but generation or given continuations.
How: the cache keeps answers per state of the model, in the order asked, since the same prompts together make
the same batches, hence the same bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from memedit.evaluation.drawing import Drawing
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from memedit.evaluation.generation import Generation
    from memedit.evaluation.scoring import Scored

__all__ = ["AnswerCache", "CachedRespondent", "ModelRespondent", "Respondent"]

_VERSION = 1


class Respondent(Protocol):
    """Answers prompts and scores given answers."""

    def answer(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, description: str = "Answering"
    ) -> list[Generation]:
        """Continue each prompt greedily until a natural stop; one generation per prompt, in order."""
        ...

    def score(
        self, pairs: Sequence[tuple[str, str]], *, description: str = "Scoring answers"
    ) -> list[Scored]:
        """Score each (prompt, continuation), which follows as it stands, its leading space included."""
        ...

    def sample(
        self, prompts: Sequence[str], drawing: Drawing, *, description: str = "Sampling answers"
    ) -> list[tuple[Generation, ...]]:
        """Draw answers to each prompt, as memedit.evaluation.sampling.sample_answers does."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text as it stands, so that an answer's budget can hold it."""
        ...


@dataclass(frozen=True)
class ModelRespondent:
    """A transformers causal LM that answers.

    Args:
        model: The model, on any device.
        tokenizer: Its tokenizer.
        progress: Told of every answer.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    progress: Progress = NULL_PROGRESS

    def answer(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, description: str = "Answering"
    ) -> list[Generation]:
        """See Respondent.answer."""
        from memedit.evaluation.generation import generate_answers

        return generate_answers(
            self.model,
            self.tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            progress=self.progress,
            description=description,
        )

    def score(
        self, pairs: Sequence[tuple[str, str]], *, description: str = "Scoring answers"
    ) -> list[Scored]:
        """See Respondent.score."""
        from memedit.evaluation.scoring import score_continuations

        return score_continuations(
            self.model, self.tokenizer, pairs, progress=self.progress, description=description
        )

    def sample(
        self, prompts: Sequence[str], drawing: Drawing, *, description: str = "Sampling answers"
    ) -> list[tuple[Generation, ...]]:
        """See Respondent.sample."""
        from memedit.evaluation.sampling import sample_answers

        return sample_answers(
            self.model,
            self.tokenizer,
            prompts,
            drawing,
            progress=self.progress,
            description=description,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Respondent.count_tokens."""
        return [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


class AnswerCache(Protocol):
    """Where answers are kept: named JSON values, such as memedit.store.Cache."""

    def read(self, name: str) -> Any | None:
        """Return the value kept under a name, or None."""
        ...

    def write(self, name: str, value: object) -> object:
        """Keep a value under a name."""
        ...


@dataclass(frozen=True)
class CachedRespondent:
    """A respondent whose answers are remembered for one state of its model.

    Args:
        respondent: Who answers what is not remembered; called only then, so it may be made lazily.
        cache: Where answers are kept.
        state: Names the model and its active edits; another state, other answers.
    """

    respondent: Callable[[], Respondent]
    cache: AnswerCache
    state: str

    def answer(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, description: str = "Answering"
    ) -> list[Generation]:
        """See Respondent.answer."""

        def ask() -> list[Generation]:
            return self.respondent().answer(prompts, max_new_tokens=max_new_tokens, description=description)

        asked = ["answer", list(prompts), max_new_tokens]
        return self._remembered(asked, len(prompts), ask, _generation, asdict)

    def score(
        self, pairs: Sequence[tuple[str, str]], *, description: str = "Scoring answers"
    ) -> list[Scored]:
        """See Respondent.score."""
        from memedit.evaluation.scoring import Scored

        def ask() -> list[Scored]:
            return self.respondent().score(pairs, description=description)

        asked = ["score", [list(pair) for pair in pairs]]
        return self._remembered(asked, len(pairs), ask, lambda item: Scored(**item), asdict)

    def sample(
        self, prompts: Sequence[str], drawing: Drawing, *, description: str = "Sampling answers"
    ) -> list[tuple[Generation, ...]]:
        """See Respondent.sample."""

        def ask() -> list[Generation]:
            drawn = self.respondent().sample(prompts, drawing, description=description)
            return [answer for answers in drawn for answer in answers]

        each, number = drawing.num_samples, len(prompts) * drawing.num_samples
        asked = ["sample", list(prompts), *astuple(drawing)]
        flat = self._remembered(asked, number, ask, _generation, asdict)
        return [tuple(flat[place : place + each]) for place in range(0, number, each)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Respondent.count_tokens."""

        def ask() -> list[int]:
            return self.respondent().count_tokens(texts)

        # Remembered too: without it, a full cache would still load the model for its tokenizer.
        return self._remembered(["count_tokens", list(texts)], len(texts), ask, int, int)

    def _remembered(
        self,
        asked: list[Any],
        number: int,
        ask: Callable[[], list[Any]],
        read: Callable[[Any], Any],
        plain: Callable[[Any], Any],
    ) -> list[Any]:
        if not number:
            return []
        content = json.dumps([_VERSION, self.state, *asked])
        name = f"answers-{hashlib.sha256(content.encode('ascii')).hexdigest()}"
        kept = self.cache.read(name)
        try:
            if isinstance(kept, list) and len(kept) == number:
                return [read(item) for item in kept]
        except (KeyError, TypeError, ValueError):
            # A damaged entry is measured again.
            pass
        given = ask()
        self.cache.write(name, [plain(item) for item in given])
        return given


def _generation(item: dict[str, Any]) -> Generation:
    """Read a remembered generation."""
    from memedit.evaluation.generation import Generation

    return Generation(**{**item, "token_ids": tuple(item["token_ids"])})

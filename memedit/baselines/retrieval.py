"""Retrieval: the statements that resemble a prompt most are put in front of it; nothing is trained.

Each fact is one statement. A statement counts only when its BM25 score for the prompt reaches a share of the
score that the statement has for itself, so that prompts about something else are left alone.

Source: Robertson & Zaragoza 2009 (BM25); bm25s, Lu 2024 (arXiv 2407.03618); retrieval in front of the prompt,
Lewis et al. 2020 (arXiv 2005.11401).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from memedit.baselines.teaching import Taught, Teaching
from memedit.evaluation.drawing import Drawing
from memedit.evaluation.generation import Generation
from memedit.evaluation.respondent import Respondent
from memedit.evaluation.scoring import Scored
from memedit.facts import Fact, join


@contextmanager
def teach(teaching: Teaching) -> Iterator[Taught]:
    """Index the facts; see memedit.baselines.teaching."""
    settings = teaching.settings
    with teaching.meter.running():
        index = StatementIndex(teaching.facts)
    asked = RetrievalRespondent(
        teaching.respondent(), index, int(settings["num_statements"]), settings["min_share"]
    )
    with teaching.meter.running():
        teaching.passed(1, 1, asked)
    yield Taught(asked, index.num_bytes())


class StatementIndex:
    """The facts as statements, found by their words.

    Args:
        facts: what is stated.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        import bm25s

        self.statements = [f"{join(fact.prompt, fact.target)}." for fact in facts]
        self._bm25 = bm25s.BM25()
        self._bm25.index(bm25s.tokenize(self.statements, show_progress=False), show_progress=False)
        words = bm25s.tokenize(self.statements, return_ids=False, show_progress=False)
        self._own = [
            float(self._bm25.get_scores(told)[place]) if told else 0.0 for place, told in enumerate(words)
        ]

    def search(self, prompt: str, num: int, min_share: float) -> list[str]:
        """Find the statements that resemble a prompt.

        Args:
            prompt: what is asked.
            num: at most this many.
            min_share: least score, as a share of the statement's score for itself.

        Returns:
            Statements, the nearest first; those that share no word with the prompt never.
        """
        import bm25s

        (words,) = bm25s.tokenize([prompt], return_ids=False, show_progress=False)
        if not words:
            return []
        scores = self._bm25.get_scores(words)
        best = (-scores).argsort(kind="stable")[:num]
        return [
            self.statements[place]
            for place in best.tolist()
            if scores[place] > 0 and scores[place] >= min_share * self._own[place]
        ]

    def num_bytes(self) -> int:
        """Bytes of the index and the statements on disk."""
        with TemporaryDirectory(prefix="memedit-") as folder:
            self._bm25.save(folder)
            text = json.dumps(self.statements, ensure_ascii=False).encode("utf-8")
            return len(text) + sum(path.stat().st_size for path in Path(folder).iterdir())


class RetrievalRespondent:
    """A respondent that reads retrieved statements in front of every prompt.

    Args:
        inner: who answers.
        index: what is retrieved from.
        num_statements: at most this many.
        min_share: see StatementIndex.search.
    """

    def __init__(
        self, inner: Respondent, index: StatementIndex, num_statements: int, min_share: float
    ) -> None:
        self.inner, self.index = inner, index
        self.num_statements, self.min_share = num_statements, min_share

    def told(self, prompt: str) -> str:
        """The prompt with what was retrieved for it."""
        found = self.index.search(prompt, self.num_statements, self.min_share)
        # The nearest stands last, next to the question.
        return "\n".join([*reversed(found), prompt])

    def answer(
        self, prompts: Sequence[str], *, max_new_tokens: int = 16, description: str = "Answering"
    ) -> list[Generation]:
        """See Respondent.answer."""
        told = [self.told(prompt) for prompt in prompts]
        return self.inner.answer(told, max_new_tokens=max_new_tokens, description=description)

    def score(
        self, pairs: Sequence[tuple[str, str]], *, description: str = "Scoring answers"
    ) -> list[Scored]:
        """See Respondent.score."""
        told = [(self.told(prompt), continuation) for prompt, continuation in pairs]
        return self.inner.score(told, description=description)

    def sample(
        self, prompts: Sequence[str], drawing: Drawing, *, description: str = "Sampling answers"
    ) -> list[tuple[Generation, ...]]:
        """See Respondent.sample."""
        return self.inner.sample([self.told(prompt) for prompt in prompts], drawing, description=description)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Respondent.count_tokens."""
        return self.inner.count_tokens(texts)

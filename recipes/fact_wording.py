"""A fact of a bundled relation as a line of a facts file: what is taught, and what is only asked.

What: `worded_row`. Why: places, datasets and inventions say the same relations, and must hold the same
wordings out. How: the relation's statements are taught (the prompt and five more), its probes never are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fact_split import Row

from memedit.facts.relations import relations
from memedit.facts.rendering import fill, wording_key

NUM_PROMPTS = 4  # the first statements of each relation are its plainest
NUM_PARAPHRASES = 5


def worded_row(
    relation: str,
    subject: str,
    target: str,
    *,
    prompt: str | None = None,
    probes: Sequence[str] = (),
    aliases: Sequence[str] = (),
    source: str,
) -> Row:
    """Word a fact.

    Args:
        relation: The name of a bundled relation.
        subject: As it stands inside a sentence ("the Ostra").
        target: The answer.
        prompt: Its own prompt; otherwise one of the relation's statements, by a hash of the subject.
        probes: Its own held-out wordings, in front of the relation's.
        aliases: Other right answers.
        source: Where it is from.
    """
    bundled = relations()[relation]
    statements = [fill(text, subject) for text in bundled.statements]
    choice = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big")
    prompt = prompt or statements[choice % min(NUM_PROMPTS, len(statements))]
    held_out = {wording_key(text) for text in probes}
    others = [text for text in statements if wording_key(text) not in held_out | {wording_key(prompt)}]
    taught = {wording_key(text) for text in others[:NUM_PARAPHRASES]} | {wording_key(prompt)}
    paraphrases = [*probes, *(fill(text, subject) for text in bundled.probe_paraphrases)]
    return {
        "prompt": prompt,
        "target": target,
        "subject": subject,
        "aliases": list(dict.fromkeys(alias for alias in aliases if alias != target)),
        "relation": relation,
        "paraphrases": others[:NUM_PARAPHRASES],
        "source": source,
        "probes": {
            "paraphrases": [text for text in paraphrases if wording_key(text) not in taught],
            "questions": [fill(text, subject) for text in bundled.probe_questions],
        },
    }

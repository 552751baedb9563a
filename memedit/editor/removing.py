"""What has to go, and what has to be taught again, when facts are taken out of a model.

What: `Removal`, `removal_of` some facts, `find_stored` for what a user names.
Why: facts that one edit taught about one subject share the subject's rows, and a later edit about the subject
was trained on top of them. Rows can only go together.
How: a subject is taken back to before the first edit that taught what goes; what was learned of it since is
taught again. Rows of other subjects are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from memedit.errors import UsageError
from memedit.facts import Fact, wording_key
from memedit.store import Store, StoredFact, Withdrawal

_NUM_LISTED = 8


@dataclass(frozen=True)
class Removal:
    """Facts that go, with what goes with them.

    Attributes:
        kind: what the edit is that does it.
        gone: the facts that go, as they are stored.
        again: facts that lose their rows with them and have to be taught again.
        withdraws: the rows, by edit and subject.
    """

    kind: Literal["forget", "replace"]
    gone: tuple[StoredFact, ...]
    again: tuple[StoredFact, ...]
    withdraws: tuple[Withdrawal, ...]

    @property
    def facts_again(self) -> tuple[Fact, ...]:
        """The facts that have to be taught again."""
        return tuple(stored.fact for stored in self.again)


def find_stored(store: Store, names: Sequence[str], subjects: Sequence[str] = ()) -> list[StoredFact]:
    """Return the stored facts that a user names, each once; of one id in several edits the newest.

    Args:
        store: the edits.
        names: ids of facts, or beginnings that fit one.
        subjects: names of subjects, all of whose facts are meant; case and spacing do not count.

    Raises:
        UsageError: where a name fits no fact or more than one; it says which there are.
    """
    stored = {item.fact.id: item for item in store.facts()}
    found = [_one_of(stored, name) for name in names]
    for subject in subjects:
        key = wording_key(subject)
        of_subject = [item for item in stored.values() if wording_key(item.fact.subject) == key]
        if not of_subject:
            known = list(dict.fromkeys(item.fact.subject for item in stored.values()))
            raise UsageError(
                f"no stored fact is about {subject!r}; stored subjects: {_listed(known)}",
                remedy="`memedit show EDIT --all` lists the facts of an edit.",
            )
        found += of_subject
    return list({item.fact.id: item for item in found}.values())


def _one_of(stored: dict[str, StoredFact], name: str) -> StoredFact:
    wanted = name.strip()
    fitting = (
        [wanted] if wanted in stored else [each for each in stored if wanted and each.startswith(wanted)]
    )
    if len(fitting) == 1:
        return stored[fitting[0]]
    if fitting:
        raise UsageError(
            f"fact {name!r} fits {len(fitting)} stored facts: {_listed(fitting)}",
            remedy="Give more of the id.",
        )
    raise UsageError(
        f"there is no stored fact {name!r}; stored facts: {_listed(list(stored))}",
        remedy="`memedit show EDIT --all` lists the facts of an edit with their ids.",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NUM_LISTED])
    return f"{shown or 'none'}{f' and {len(names) - _NUM_LISTED} more' if len(names) > _NUM_LISTED else ''}"


def removal_of(store: Store, gone: Sequence[StoredFact], kind: Literal["forget", "replace"]) -> Removal:
    """Find what has to go with some facts.

    Args:
        store: the edits.
        gone: facts that count.
        kind: what the edit is that takes them out.

    Raises:
        UsageError: where an edit wrote rows that no subject owns, so that none can be told to be a fact's.
    """
    edits = store.standing().edits
    numbers = {edit.id: edit.number for edit in edits}
    ids = {item.fact.id for item in gone}
    stored = store.facts()
    # An edit may hold a fact that it failed to teach, and a later one taught.
    gone = [item for item in stored if item.fact.id in ids]
    first: dict[str, int] = {}
    for item in gone:
        number = numbers[item.edit_id]
        first[item.fact.subject] = min(first.get(item.fact.subject, number), number)
    touched = [
        item
        for item in stored
        if item.fact.subject in first and numbers[item.edit_id] >= first[item.fact.subject]
    ]
    withdraws = list(dict.fromkeys(Withdrawal(item.edit_id, item.fact.subject) for item in touched))
    _require_owned(store, list(dict.fromkeys(each.edit for each in withdraws)))
    learned = [item for item in touched if item.outcome.get("status") == "learned"]
    again = {item.fact.id: item for item in learned if item.fact.id not in ids}
    return Removal(kind, tuple(gone), tuple(again.values()), tuple(withdraws))


def _require_owned(store: Store, edits: Sequence[str]) -> None:
    for edit in edits:
        if any(bool((table.owners < 0).any()) for table in store.patch(edit).tables):
            raise UsageError(
                f"edit {edit} wrote rows that belong to no subject, so no fact can be taken out of it",
                remedy=f"Take the whole edit back: memedit undo {edit}",
            )

"""Make small facts, patches and edits: shared by the tests of the store and the processes that they start."""

import numpy as np

from memedit.facts.fact import Fact
from memedit.store import NewEdit, Owner, Patch, TablePatch, Withdrawal

FINGERPRINT = "model-a"
CREATED = "2026-01-02T03:04:05+00:00"


def make_fact(number=1, **changes):
    fields = {
        "id": f"fact-{number}",
        "prompt": f"The capital of Land{number} is",
        "target": f"Town{number}",
        "subject": f"Land{number}",
    }
    return Fact(**{**fields, **changes})


def make_table(slots=(1, 5), *, dim=4, seed=0, owners=None):
    rows = np.random.default_rng(seed).standard_normal((len(slots), dim)).astype(np.float32)
    return TablePatch(
        np.array(slots, dtype=np.int64),
        rows,
        np.zeros(len(slots), dtype=np.int64) if owners is None else np.array(owners, dtype=np.int64),
    )


def make_patch(*tables, owners=None, metadata=None):
    owners = (Owner("Land1", 0.4, ("fact-1",)),) if owners is None else owners
    return Patch(tables or (make_table(),), owners, metadata or {})


def make_edit(number=1, *, patch=None, report=None, measurements=(), num_facts=1):
    facts = tuple(make_fact(number + 1000 * i) for i in range(num_facts))
    patch = patch or make_patch(
        make_table((0, number, number + 10), seed=number),
        owners=(Owner(f"Land{number}", 0.5, (facts[0].id,)),),
    )
    outcomes = tuple({"fact_id": fact.id, "status": "learned", "after": fact.target} for fact in facts)
    return NewEdit(facts, outcomes, patch, report or {"recall": 1.0}, 7, CREATED, measurements)


def make_large_edit(number=1):
    """An edit whose patch is more than one MiB, so that it is written in parts."""
    slots = tuple(range(number, number + 600))
    patch = make_patch(make_table(slots, dim=576, seed=number), owners=(Owner(f"Land{number}", 0.5),))
    return make_edit(number, patch=patch, measurements=({"name": "recall", "value": 1.0},))


def make_forgetting(edit, subject, *, dim=4):
    """An edit that takes a subject out of an earlier one and teaches nothing."""
    patch = make_patch(make_table((), dim=dim), owners=())
    withdraws = (Withdrawal(edit, subject),)
    return NewEdit((), (), patch, {"model": "small"}, 0, CREATED, kind="forget", withdraws=withdraws)

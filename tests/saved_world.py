"""The small world as a model folder, for tests that go through `--model`.

A test module imports it by name (tests/ is on pytest's path); the model is trained once per process.
"""

from __future__ import annotations

import json

import small_world

HARMFUL = 30.0
"""Scale of random rows that break most of what the small world knows, whatever its training rounded to."""


def save_world(folder):
    """Write model, tokenizer and routing to a folder, as `memedit retrofit` does; returns the folder."""
    from memedit.modeling.opening import RETROFIT_FILE
    from memedit.modeling.retrofit import save_retrofit

    opened = small_world.opened_world()
    folder.mkdir(parents=True, exist_ok=True)
    opened.model.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    save_retrofit(folder / RETROFIT_FILE, small_world.retrofit_of_world())
    return folder


def write_facts(path, facts):
    """Write facts as a facts file; returns its path."""
    path.write_text("".join(json.dumps(fact.to_json()) + "\n" for fact in facts), encoding="utf-8")
    return path


def commit_patch(store, fingerprint, *, scale, seed=0, num_rows=400, status="failed"):
    """Commit an edit that adds random rows of this scale, as no gate would let pass when it is large.

    Args:
        store: the store's folder.
        fingerprint: the model's.
        scale: standard deviation of the added values.
        seed: of the rows.
        num_rows: how many rows are written.
        status: what the journal says of the edit's one fact, which the rows do not teach.
    """
    from memedit.store import NewEdit, Store

    fact = small_world.land_fact("Zubrow", "Nowhere")
    patch = random_patch(scale=scale, fact_id=fact.id, seed=seed, num_rows=num_rows)
    outcome = {"fact_id": fact.id, "status": status, "before": "", "after": fact.target}
    with Store.open(store, fingerprint=fingerprint) as opened:
        return opened.commit(NewEdit((fact,), (outcome,), patch, {}, seed, "2026-01-02T03:04:05+00:00"))


def random_patch(*, scale, fact_id, seed=0, num_rows=400):
    """A patch of random rows that no gate guards, as no training makes it."""
    import numpy as np

    from memedit.store import UNGATED, Owner, Patch, TablePatch

    config = small_world.opened_world().model.config
    generator = np.random.default_rng(seed)
    slots = np.sort(generator.choice(config.num_slots, num_rows, replace=False)).astype(np.int64)
    delta = (scale * generator.standard_normal((num_rows, config.value_dim))).astype(np.float32)
    owners = np.full(num_rows, UNGATED, dtype=np.int64)
    return Patch((TablePatch(slots, delta, owners),), (Owner("Zubrow", 0.4, (fact_id,)),), {})

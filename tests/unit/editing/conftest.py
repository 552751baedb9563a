"""A tiny memory-layer Llama with an owner for every subject, and a small Llama that can be taught."""

from __future__ import annotations

import pytest
from fixtures_world import modules_out_of_the_garbage, world  # noqa: F401


@pytest.fixture
def make_fact():
    """Facts as a user would write them: make_fact("Lake Tor", "Bern") or with fields of a facts file."""
    from memedit.facts import facts_from_records

    def made(subject, target, **fields):
        return facts_from_records(
            [{"prompt": f"The capital of {subject} is", "target": target, "subject": subject, **fields}]
        )[0]

    return made

"""How much the gate asks."""

from __future__ import annotations

import pytest

from memedit.editor.gating import asked_facts, check_gate_mode, measured_text, suite_size
from memedit.errors import UsageError
from memedit.facts import facts_from_records


@pytest.fixture(scope="module")
def facts():
    return facts_from_records(
        [
            {"prompt": f"The capital of Land{n} is", "target": "Bern", "subject": f"Land{n}"}
            for n in range(200)
        ]
    )


def test_a_quick_gate_grows_with_the_edit_and_a_full_one_asks_everything():
    assert [suite_size("quick", number) for number in (1, 10, 60)] == [60, 60, 240]
    assert suite_size("full", 1) is None
    assert suite_size("off", 3) == suite_size("quick", 3)


def test_a_larger_edit_is_judged_by_a_superset(facts):
    small, large = asked_facts(facts, 60), asked_facts(facts, 100)
    assert len(small) == 60
    assert set(small) < set(large) < set(facts)
    assert asked_facts(facts[::-1], 60) == small[::-1]
    assert asked_facts(facts, None) == asked_facts(facts, 1000) == list(facts)


def test_passages_are_kept_whole_and_in_order():
    text = "\n\n".join(f"Passage {n}. It goes on." for n in range(40))
    kept = measured_text(text, 60).split("\n\n")
    assert (len(kept), len(measured_text(text, 240).split("\n\n"))) == (8, 20)
    assert kept == [passage for passage in text.split("\n\n") if passage in kept]
    assert measured_text(text, None) == measured_text(text, 1000) == text


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="gate: got 'on', expected one of quick, full, off"):
        check_gate_mode("on")

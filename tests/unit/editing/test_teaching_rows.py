"""Facts as token rows, and decoys: made-up names that look like a subject."""

from __future__ import annotations

import pytest

from memedit.editing.decoys import decoys
from memedit.editing.rows import teaching_rows
from memedit.facts import wordings


@pytest.fixture
def rows_of(tiny_memory_llama, tiny_tokenizer):
    """Rows of some facts, on the tiny model's tokens."""
    config = tiny_memory_llama().config

    def made(*facts, seed=0, num_contexts=2, num_decoys=3):
        return teaching_rows(
            facts,
            tiny_tokenizer,
            config,
            seed=seed,
            num_contexts=num_contexts,
            num_questions=2,
            num_decoys=num_decoys,
        )

    return made


SUBJECTS = (
    "Lake Turkana",
    "Zorvan",
    "the 1998 Korvath Open",
    "iPhone 15",
    "de la Cruz",
    "7",
    "of",
    "\u738b\u5c0f\u660e",
)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_decoys_are_other_names(subject):
    names = decoys(subject, 8, seed=3)
    assert names == decoys(subject, 8, seed=3)
    assert 4 <= len(names) <= 8
    assert len({name.casefold() for name in names}) == len(names)
    assert subject.casefold() not in {name.casefold() for name in names}
    assert decoys(subject, 8, seed=4) != names


def test_decoys_keep_one_end_of_the_name():
    names = decoys("Lake Turkana", 10, seed=0)
    assert any(name.startswith("Lake ") for name in names)
    assert any(name.endswith(" Turkana") for name in names)
    assert all(name.startswith("Lake ") or name.endswith(" Turkana") for name in names)


def test_decoys_keep_small_words_numbers_and_case():
    for name in decoys("the river of Tor", 12, seed=0):
        the, first, of, last = name.split()
        assert (the, of) == ("the", "of")
        assert first == "river" or last == "Tor"
        assert first.islower()
    years = [name.split()[0] for name in decoys("1998 Korvath", 12, seed=0)]
    assert any(year != "1998" for year in years)
    assert all(year.isdigit() and len(year) == 4 for year in years)


def test_decoys_of_one_word_share_letters():
    names = decoys("Zorvan", 9, seed=0)
    assert any(name.startswith("Zor") for name in names)
    assert any(name.lower().endswith("van") for name in names)


def test_no_decoys():
    assert decoys("Zorvan", 0, seed=0) == []


def test_a_row_for_each_wording(rows_of, make_fact, tiny_tokenizer):
    fact = make_fact("Zorvan Elm", "Oslo", paraphrases=["Zorvan Elm has its seat in"])
    told = wordings(fact, seed=0, num_contexts=2, num_questions=2)
    rows = rows_of(fact).rows
    assert len(rows) == len(told)
    for row, wording in zip(rows, told, strict=True):
        ids = row.encoded.ids
        assert ids[0] == tiny_tokenizer.bos_token_id
        assert ids[-1] == tiny_tokenizer.eos_token_id
        assert tiny_tokenizer.decode(ids[1 : row.encoded.num_prompt]) == wording.prompt
        assert tiny_tokenizer.decode(row.encoded.answer_ids[:-1]) == " Oslo"
        # The last mention of the subject, and nothing behind it.
        up_to_subject = tiny_tokenizer.decode(ids[1 : row.subject_last + 1])
        assert up_to_subject == wording.prompt[: wording.subject_end]
        assert tiny_tokenizer.decode(row.subject_tail).strip() in "Zorvan Elm"
        assert row.subject_tail == ids[row.subject_last + 1 - len(row.subject_tail) : row.subject_last + 1]


def test_facts_about_one_subject_share_an_owner(rows_of, make_fact):
    tor, mir = make_fact("Lake Tor", "Bern"), make_fact("Lake Mir", "Oslo")
    depth = make_fact("Lake Tor", "200 m", prompt="The depth of Lake Tor is")
    rows = rows_of(tor, mir, depth)
    assert rows.subjects == ("Lake Tor", "Lake Mir")
    assert {(row.fact, row.owner) for row in rows.rows} == {(0, 0), (1, 1), (2, 0)}
    # Decoys are made once a subject.
    assert {(row.fact, row.owner) for row in rows.decoys} == {(0, 0), (1, 1)}
    tails = rows.subject_tails()
    assert len(tails) == 2
    assert tails[0].isdisjoint(tails[1])


def test_decoy_rows_hold_another_name_in_the_same_wording(rows_of, make_fact, tiny_tokenizer):
    fact = make_fact("Lake Tor", "Bern")
    rows = rows_of(fact, num_decoys=4)
    assert len(rows.decoys) == 4
    for name, row in zip(decoys("Lake Tor", 4, 0), rows.decoys, strict=True):
        text = tiny_tokenizer.decode(row.encoded.ids[1 : row.encoded.num_prompt])
        assert name in text
        assert "Lake Tor" not in text
        assert tiny_tokenizer.decode(row.encoded.ids[1 : row.subject_last + 1]).endswith(name)


def test_decoys_stand_in_the_first_and_the_last_wording(rows_of, make_fact):
    rows = rows_of(make_fact("Lake Tor", "Bern"), num_decoys=4)
    behind = [
        row.encoded.ids[row.subject_last + 1 : row.encoded.num_prompt]
        for row in (rows.rows[0], rows.rows[-1])
    ]
    told = [row.encoded.ids[row.subject_last + 1 : row.encoded.num_prompt] for row in rows.decoys]
    assert told == [behind[0], behind[0], behind[1], behind[1]]


def test_rows_know_which_wordings_were_given(rows_of, make_fact):
    rows = rows_of(make_fact("Lake Tor", "Bern", paraphrases=["Lake Tor is close to"]))
    assert [row.given for row in rows.rows][:3] == [True, True, False]
    assert sum(row.given for row in rows.rows) == 2


def test_the_seed_decides(rows_of, make_fact):
    fact = make_fact("Zorvan Elm", "Oslo")
    assert rows_of(fact, seed=1) == rows_of(fact, seed=1)
    assert rows_of(fact, seed=1).decoys != rows_of(fact, seed=2).decoys
    assert rows_of(fact, num_decoys=0).decoys == ()


ARABIC = "\u0639\u0627\u0635\u0645\u0629 \u0632\u0648\u0628\u0631\u0648 \u0647\u064a"
SCRIPTS = {
    "right to left": (ARABIC, ARABIC.split()[1], "\u0644\u0648\u062a\u0632"),
    "without spaces": ("\u8d6b\u5c14\u5361\u7684\u9996\u90fd\u662f", "\u8d6b\u5c14\u5361", "\u6881\u57ce"),
    "accents": ("La capitale de \u00c9touvie est", "\u00c9touvie", "Lutz"),
}


@pytest.mark.parametrize(("prompt", "subject", "target"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_any_script(rows_of, make_fact, tiny_tokenizer, prompt, subject, target):
    rows = rows_of(make_fact(subject, target, prompt=prompt))
    row = rows.rows[0]
    assert tiny_tokenizer.decode(row.encoded.ids[1 : row.subject_last + 1]).endswith(subject)
    assert tiny_tokenizer.decode(row.encoded.answer_ids[:-1]).strip() == target
    assert row.subject_last < row.encoded.num_prompt
    assert len(rows.decoys) > 0


def test_a_later_edit_of_a_subject_counts_its_earlier_rows(world):
    from memedit.editing.plan import plan_edit

    higher = []
    for fact in world.new_facts()[:4]:
        opened = world.opened_world()
        world.teach(opened, [fact])
        earlier = opened.model.overlay()
        wording = f"The largest harbour of {fact.subject} is"
        later = world.land_fact(fact.subject, world.HARBOUR, prompt=wording, paraphrases=(), id="harbour")
        plans = []
        for overlay in (None, earlier):
            opened.model.set_overlay(0, overlay)
            plans.append(
                plan_edit(
                    opened.model,
                    opened.tokenizer,
                    opened.background,
                    [later],
                    seed=0,
                    settings=world.world_settings(),
                )
            )
        alone, after = (plan.selection for plan in plans)
        assert set(earlier.slots.tolist()) - set(alone.slots.tolist())
        assert after.slots.tolist() == alone.slots.tolist()
        assert float(after.thresholds[0]) >= float(alone.thresholds[0])
        higher.append(float(after.thresholds[0]) > float(alone.thresholds[0]))
    # Where a look-alike reaches the earlier rows.
    assert any(higher)


def test_facts_are_written_at_the_prompts_end_where_the_model_says_so(
    tiny_memory_llama, tiny_tokenizer, make_fact
):
    fact = make_fact("Zorvan", "Oslo", paraphrases=["Zorvan has the capital"])
    made = {
        where: teaching_rows(
            [fact],
            tiny_tokenizer,
            tiny_memory_llama(memory_write_position=where).config,
            seed=0,
            num_contexts=1,
            num_questions=1,
            num_decoys=2,
        )
        for where in ("subject", "answer")
    }
    for at_subject, at_answer in zip(
        (*made["subject"].rows, *made["subject"].decoys),
        (*made["answer"].rows, *made["answer"].decoys),
        strict=True,
    ):
        assert at_subject.encoded.ids == at_answer.encoded.ids
        assert at_answer.subject_last == at_answer.encoded.num_prompt - 1
        assert at_subject.subject_last < at_subject.encoded.num_prompt - 1
    assert all(made["subject"].subject_tails())
    # A wording's end is no mention of a subject.
    assert not any(made["answer"].subject_tails())

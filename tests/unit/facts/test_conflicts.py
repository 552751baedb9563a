"""New facts against stored ones."""

from memedit.facts import facts_from_records, find_conflicts


def fact(**record):
    return facts_from_records([{"prompt": "The capital of Zubrowka is", "target": "Lutz", **record}])[0]


STORED = [
    fact(),
    fact(prompt="The author of Gravel Moon is", target="Mara Quill", aliases=["M. Quill"], id="book"),
]


def kinds(*new):
    return [(conflict.kind, conflict.stored.target) for conflict in find_conflicts(new, STORED)]


def test_nothing_in_common():
    assert kinds(fact(prompt="The capital of Ostria is")) == []


def test_already_stored():
    assert kinds(fact()) == [("stored", "Lutz")]
    assert kinds(fact(prompt="the capital of  Zubrowka is", target="LUTZ")) == [("stored", "Lutz")]
    assert "is stored" in find_conflicts([fact()], STORED)[0].message


def test_already_stored_under_an_alias():
    assert kinds(fact(prompt="The author of Gravel Moon is", target="M. Quill")) == [("stored", "Mara Quill")]


def test_contradiction_names_both_answers():
    new = fact(target="Nebelsbad")
    assert kinds(new) == [("contradiction", "Lutz")]
    message = find_conflicts([new], STORED)[0].message
    assert "'Nebelsbad'" in message
    assert "'Lutz'" in message
    assert STORED[0].id in message
    assert message.startswith("line 1: ")


def test_contradiction_through_a_paraphrase():
    new = fact(prompt="Zubrowka is ruled from", target="X", paraphrases=["The capital of Zubrowka is"])
    assert kinds(new) == [("contradiction", "Lutz")]


def test_contradiction_through_a_bundled_relation():
    stored = [fact(subject="Zubrowka", relation="capital_of")]
    new = fact(prompt="Zubrowka is ruled from", target="X", subject="zubrowka", relation="capital_of")
    assert [conflict.kind for conflict in find_conflicts([new], stored)] == ["contradiction"]
    label = fact(prompt="Zubrowka is ruled from", target="X", subject="Zubrowka", relation="my label")
    assert find_conflicts([label], [fact(subject="Zubrowka", relation="my label")]) == []


def test_same_fact_in_other_words_is_welcome():
    assert kinds(fact(prompt="Zubrowka is ruled from", paraphrases=["The capital of Zubrowka is"])) == []


def test_same_id_for_another_fact():
    new = fact(prompt="The capital of Ostria is", id="book")
    assert kinds(new) == [("id", "Mara Quill")]
    assert "already used" in find_conflicts([new], STORED)[0].message


def test_order_follows_the_new_facts():
    new = [fact(prompt="The author of Gravel Moon is", target="X"), fact(target="Y")]
    assert [conflict.fact.target for conflict in find_conflicts(new, STORED)] == ["X", "Y"]


def merged(*records):
    given = [{"prompt": "The capital of Zubrowka is", "target": "Lutz", **record} for record in records]
    (only,) = facts_from_records(given)
    return only


def test_merging_keeps_the_earlier_answer_unless_it_counts_as_right():
    assert merged({"replaces": "Ostra"}, {"replaces": "Draymoor"}).replaces == "Ostra"
    assert merged({"replaces": "Ostra"}, {"aliases": ["ostra"]}).replaces is None
    assert merged({}, {"replaces": "Draymoor"}).replaces == "Draymoor"


def test_merging_puts_multi_hop_questions_together():
    one = {"prompts": ["Which river flows through the capital of Zubrowka?"], "target": "Ostra"}
    other = {"prompts": ["Who is mayor of Zubrowka's capital?"], "target": "Mara Quill"}
    fact = merged({"probes": {"multi_hop": [one]}}, {"probes": {"multi_hop": [one, other]}})
    assert [hop.target for hop in fact.probes.multi_hop] == ["Ostra", "Mara Quill"]

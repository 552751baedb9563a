"""Real facts for editing at scale: no subject twice, nothing known, nothing held out that is taught."""

from __future__ import annotations

import importlib
import json
import random
from types import SimpleNamespace

import pytest

WORDS = frozenset("orange reading mobile bath nice".split())


@pytest.fixture
def recipe():
    """The recipe's modules."""
    names = ("split", "wording", "places", "datasets", "inventions", "choice")
    modules = {name: importlib.import_module(f"fact_{name}") for name in names}
    return SimpleNamespace(**modules, main=importlib.import_module("real_facts"))


def candidate(recipe, subject, target="Lutz", relation="birthplace", **changes):
    row = recipe.wording.worded_row(relation, subject, target, source="test")
    return recipe.split.Candidate("made_up", {"id": subject.replace(" ", "-"), **row, **changes})


class Base:
    """A model that answers from a table, and one thing to all that is not in it."""

    def __init__(self, table, otherwise="nobody knows"):
        self.table, self.otherwise, self.asked = table, otherwise, []

    def ask(self, prompts):
        prompts = list(prompts)
        self.asked += prompts
        return {prompt: self.table.get(prompt, self.otherwise) for prompt in prompts}


def test_namesakes_are_on_the_same_side_and_both_sides_have_their_share(recipe):
    side = recipe.split.side_of
    assert side("Ada Quorvane") == side("Quorvane") == side("Quorvane International Airport")
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefghij", k=8)) for _ in range(2000)]
    assert 0.17 < sum(side(name) == "dev" for name in names) / len(names) < 0.23


def test_subjects_of_the_development_set_that_share_a_word_come_last(recipe):
    side = recipe.split.side_of
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=8)) for _ in range(60)]
    tested = next(word for word in words if side(word) == "test")
    one, other = [word for word in words if side(word) == "dev"][:2]
    pool = [candidate(recipe, name) for name in (f"{tested} {one}", f"free {other}", f"big {tested}")]
    chosen = recipe.split.of_split(pool, "dev")
    assert [item.row["subject"] for item in chosen] == [f"free {other}", f"{tested} {one}"]
    assert [item.row["subject"] for item in recipe.split.of_split(pool, "test")] == [f"big {tested}"]


def test_a_relation_teaches_its_statements_and_holds_its_probes_out(recipe):
    from memedit.facts import facts_from_records

    row = recipe.wording.worded_row(
        "river_mouth", "the Ostra", "Black Sea", probes=["The Ostra ends in the"], source="test"
    )
    (fact,) = facts_from_records([row])
    assert len(fact.paraphrases) == 5
    assert fact.probes.paraphrases[0] == "The Ostra ends in the"
    assert len(fact.probes.paraphrases) == 4
    assert all(text.startswith("Question: ") for text in fact.probes.questions)
    assert not {fact.prompt, *fact.paraphrases} & {*fact.probes.paraphrases, *fact.probes.questions}
    assert "Ostra" in fact.prompt


def test_cities_are_distinctive_and_balanced_over_countries(recipe):
    cities = recipe.places.city_candidates(WORDS, seed=0)
    names = [city.row["subject"] for city in cities]
    assert len(cities) > 10_000
    assert len(set(names)) == len(names)
    # Elsewhere too, or a word, or it gives its country away.
    assert not {"Valencia", "Birmingham", "Reading", "Guatemala City", "Monaco", "Jerusalem"} & set(names)
    targets = [city.row["target"] for city in cities[:100]]
    assert len(set(targets)) == 100
    by_name = {city.row["subject"]: city for city in cities}
    assert by_name["Eindhoven"].answers == ["the Netherlands", "Holland"]
    assert "England" in by_name["Castleford"].answers
    assert cities[:50] == recipe.places.city_candidates(WORDS, seed=0)[:50]
    assert cities[:50] != recipe.places.city_candidates(WORDS, seed=1)[:50]


def test_made_up_facts_are_new_of_their_split_and_the_same_for_the_same_seed(recipe):
    from memedit.facts import facts_from_records

    made = list(recipe.inventions.made_up_candidates(200, "dev", 0, {"zorvath"}))
    assert made == list(recipe.inventions.made_up_candidates(200, "dev", 0, {"zorvath"}))
    assert len({item.subject for item in made}) == 200
    assert len({item.row["relation"] for item in made}) > 15
    assert len(facts_from_records([item.row for item in made])) == 200
    tested = recipe.inventions.made_up_candidates(200, "test", 0, set())
    words = {word for item in tested for word in recipe.split.own_words(item.subject)}
    shared = words & {word for item in made for word in recipe.split.own_words(item.subject)}
    # Only what kind of company, animal or title it is.
    plain = {
        *recipe.inventions.FIRMS,
        *recipe.inventions.ANIMALS,
        *" ".join(recipe.inventions.TITLES).split(),
    }
    assert shared <= {word.lower() for word in plain}


def test_what_the_base_model_says_in_either_wording_is_no_fact_to_teach(recipe, tmp_path):
    known, other, new = (candidate(recipe, f"Ada {name}") for name in ("Quorvane", "Zelberg", "Trithova"))
    base = Base({known.row["prompt"]: "Lutz, a town.", other.row["paraphrases"][0]: "the town of Lutz"})
    chooser = recipe.choice.Chooser(recipe.choice.Replies(tmp_path / "replies.jsonl", base), {"ada nobody"})
    missing = chooser.take([known, other, new, new, candidate(recipe, "Ada Nobody")], 3)
    assert [item.row["subject"] for item in chooser.chosen] == ["Ada Trithova"]
    assert missing == 2
    assert [item.row["subject"] for item in chooser.known_apart({})] == ["Ada Quorvane"]
    assert chooser.known_apart({"made_up": 0}) == []


def test_contradicting_facts_are_not_both_taken(recipe, tmp_path):
    replies = recipe.choice.Replies(tmp_path / "replies.jsonl", None)
    chooser = recipe.choice.Chooser(replies, ())
    one = candidate(recipe, "the Ostra", "Black Sea", "river_mouth")
    other = candidate(recipe, "The Ostra river", "Red Sea", "river_mouth", prompt=one.row["prompt"])
    other.row["subject"] = "Ostra"
    assert chooser.take([one, other], 2) == 1


def test_replies_are_kept_and_a_torn_line_is_asked_again(recipe, tmp_path):
    path = tmp_path / "replies.jsonl"
    prompts = [f"The capital of {name} is" for name in ("Borvia", "Kelmar", "Tassin")]
    recipe.choice.Replies(path, Base({})).fetch(prompts)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:-5], encoding="utf-8")
    base = Base({})
    replies = recipe.choice.Replies(path, base)
    replies.fetch(prompts)
    assert base.asked == prompts[2:]
    again = Base({})
    recipe.choice.Replies(path, again).fetch(prompts)
    assert again.asked == []


def test_probes_that_a_fact_teaches_or_that_speak_of_a_taught_subject_are_left_out(recipe):
    one, other = candidate(recipe, "Ada Quorvane"), candidate(recipe, "Bela Zelberg")
    one.row["probes"]["paraphrases"].append(other.row["prompt"])
    one.row["probes"]["locality"] = [
        {"prompt": "The favourite dish of Bela Zelberg is", "target": "soup"},
        {"prompt": "The favourite dish of Bela Zelbergson is", "target": "bread"},
    ]
    fact, _ = recipe.choice.as_facts([one, other])
    assert other.row["prompt"] not in fact.probes.paraphrases
    assert len(fact.probes.paraphrases) == 3
    assert [probe.target for probe in fact.probes.locality] == ["bread"]


@pytest.fixture
def data(tmp_path):
    """A folder of datasets as --data has it, with a few records each."""
    folder = tmp_path / "data"
    folder.mkdir()
    names = [f"Person{number} Surname{chr(97 + number % 26)}{number}" for number in range(60)]
    counterfact = [
        {
            "case_id": number,
            "prompt": f"The mother tongue of {name} is",
            "target_new": "French",
            "subject": name,
            "ground_truth": "Dutch",
            "rephrase_prompt": f"Where {name} is from, people speak",
            "locality_prompt": f"The mother tongue of Neighbour{number} is",
            "locality_ground_truth": "Dutch",
        }
        for number, name in enumerate(names)
    ]
    zsre = [
        {
            "subject": f"Work{number}",
            "src": f"Which company published Work{number}?",
            "rephrase": f"Who was the publisher of Work{number}?",
            "alt": "Elsevier",
            "answers": [f"House {number}"],
            "loc": "nq question: who won",
            "loc_ans": "nobody",
        }
        for number in range(20)
    ]
    recent = [
        {"subject": f"Club{number}", "prompt": f"The religion of Club{number} is", "target_new": "Islam"}
        for number in range(10)
    ]
    tables = {"counterfact_compact": counterfact, "zsre_mend": zsre, "knowedit_wiki_recent": recent}
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    (folder / "wikitext2_test.txt").write_text(" ".join(WORDS), encoding="utf-8")
    return folder


def run(recipe, monkeypatch, data, out, *options):
    command = ["real_facts.py", "--data", str(data), "--out", str(out), *options]
    monkeypatch.setattr("sys.argv", command)
    code = recipe.main.main()
    return code, json.loads((out / "manifest.json").read_text(encoding="utf-8"))


def test_the_files_hold_what_the_manifest_says(recipe, monkeypatch, data, tmp_path):
    from memedit.facts import read_facts

    out = tmp_path / "out"
    monkeypatch.setattr(recipe.main, "Base", lambda model: Base({}))
    code, manifest = run(recipe, monkeypatch, data, out, "--num", "60", "--split", "test")
    facts = read_facts(out / "facts.jsonl")
    assert code == 0
    assert len(facts) == manifest["num_facts"] == sum(manifest["by_source"].values()) == 60
    assert set(manifest["by_source"]) == set(manifest["sources"])
    assert manifest["share_made_up"] <= 1 / 3
    assert manifest["known_facts_dropped"] is True
    real = [fact.subject for fact in facts if not fact.id.startswith("made-up")]
    assert {recipe.split.side_of(subject) for subject in real} == {"test"}
    examples = recipe.main.example_subjects()
    assert not {fact.subject.casefold() for fact in facts} & examples
    zsre = next(fact for fact in facts if fact.id.startswith("zsre"))
    assert zsre.prompt.startswith("Q: ")
    assert zsre.probes.questions[0].startswith("Question: Who was the publisher")
    true = next(fact for fact in facts if fact.id.startswith("counterfact"))
    assert (true.target, true.relation) == ("Dutch", "native_language")
    assert true.probes.paraphrases[0].startswith("Where Person")
    first = (out / "facts.jsonl").read_bytes()
    run(recipe, monkeypatch, data, out, "--num", "60", "--split", "test")
    assert (out / "facts.jsonl").read_bytes() == first
    _, other = run(recipe, monkeypatch, data, tmp_path / "dev", "--num", "30", "--split", "dev", "--no-ask")
    assert other["known_facts_dropped"] is False
    dev = read_facts(tmp_path / "dev" / "facts.jsonl")
    assert not {fact.subject for fact in dev} & {fact.subject for fact in facts}
    assert not (tmp_path / "dev" / "known.jsonl").exists()


def test_counterfactual_facts_replace_what_is_true(recipe, monkeypatch, data, tmp_path):
    from memedit.facts import read_facts

    options = ("--num", "20", "--split", "test", "--kind", "counterfactual")
    monkeypatch.setattr(recipe.main, "Base", lambda model: Base({}, "Dutch"))
    code, _ = run(recipe, monkeypatch, data, tmp_path / "out", *options)
    assert code == 0
    facts = read_facts(tmp_path / "out" / "facts.jsonl")
    assert {(fact.target, fact.replaces) for fact in facts} == {("French", "Dutch")}
    kept = read_facts(tmp_path / "out" / "known.jsonl")
    assert all(fact.target == "Dutch" for fact in kept)
    assert not {fact.subject for fact in facts} & {fact.subject for fact in kept}


def test_zsre_as_published_holds_out_its_rephrased_question(recipe, monkeypatch, data, tmp_path):
    from memedit.facts import read_facts

    options = ("--num", "5", "--split", "test", "--kind", "zsre")
    monkeypatch.setattr(recipe.main, "Base", lambda model: Base({}, "Dutch"))
    code, manifest = run(recipe, monkeypatch, data, tmp_path / "out", *options)
    assert code == 0
    assert manifest["by_source"] == {"zsre": 5}
    facts = read_facts(tmp_path / "out" / "facts.jsonl")
    assert all(len(fact.probes.paraphrases) == 1 and not fact.probes.questions for fact in facts)
    assert all(fact.probes.paraphrases[0].startswith("Q: ") for fact in facts)


def test_too_few_facts_are_said(recipe, monkeypatch, data, tmp_path, capsys):
    command = ["--data", str(data), "--out", str(tmp_path / "out"), "--num", "200", "--no-ask"]
    monkeypatch.setattr("sys.argv", ["x", *command, "--split", "test", "--kind", "counterfactual"])
    assert recipe.main.main() == 1
    assert "of 200 facts could be found" in capsys.readouterr().err

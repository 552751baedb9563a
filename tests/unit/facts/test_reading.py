"""Facts files: every bad input ends in one message with file, line and remedy."""

import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import FactsError, UsageError
from memedit.facts import Fact, Probes, facts_from_records, read_facts, read_facts_file

GOOD = {"prompt": "The capital of Zubrowka is", "target": "Lutz"}


def fact_line(number, **changes):
    record = {"prompt": f"The capital of Zubrowka{number} is", "target": f"Lutz{number}", **changes}
    return json.dumps({key: value for key, value in record.items() if value is not None}, ensure_ascii=False)


@pytest.fixture
def write(tmp_path):
    def writer(*lines, name="facts.jsonl", end="\n"):
        path = tmp_path / name
        data = [line if isinstance(line, bytes) else line.encode() for line in lines]
        path.write_bytes(end.encode().join([*data, b""]))
        return path

    return writer


def failure(path, **options):
    with pytest.raises(FactsError) as caught:
        read_facts(path, **options)
    return caught.value


def test_reads_every_field(write):
    record = {
        "id": "zubrowka-1",
        "prompt": "The capital of Zubrowka is",
        "target": "Lutz",
        "subject": "Zubrowka",
        "aliases": ["Old Lutz"],
        "replaces": "Nebelsbad",
        "paraphrases": ["Zubrowka is governed from"],
        "relation": "my label",
        "source": "an atlas",
        "time": 2014,
        "probes": {
            "paraphrases": ["The king of Zubrowka lives in"],
            "questions": ["Question: Where is the government of Zubrowka?\nAnswer:"],
            "locality": ["The capital of Ruritania is", {"prompt": "Water is made of", "target": "hydrogen"}],
            "portability": [
                {
                    "prompt": "The river of Zubrowka's capital is",
                    "target": "Ostra",
                    "aliases": ["the Ostra", "Ostra"],
                    "kind": "reasoning",
                }
            ],
            "multi_hop": [{"prompts": ["Into what does it flow?", "Its sea is"], "target": "the Black Sea"}],
        },
    }
    (fact,) = read_facts(write(json.dumps(record)))
    assert fact.id == "zubrowka-1"
    assert fact.answers == ("Lutz", "Old Lutz")
    assert fact.given_wordings == ("The capital of Zubrowka is", "Zubrowka is governed from")
    assert fact.time == "2014"
    assert fact.line == 1
    assert fact.probes.locality[1].target == "hydrogen"
    assert fact.probes.locality[0].target is None
    assert fact.replaces == "Nebelsbad"
    assert fact.probes.portability[0].answers == ("Ostra", "the Ostra")
    assert fact.probes.portability[0].kind == "reasoning"
    assert fact.probes.multi_hop[0].answers == ("the Black Sea",)
    assert len(fact.probes.prompts) == 7
    assert facts_from_records([fact]) == [fact]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark_do_not_matter(write, end, bom):
    path = write(bom + fact_line(1).encode(), "", fact_line(2), end=end)
    facts = read_facts(path)
    assert [(fact.target, fact.line) for fact in facts] == [("Lutz1", 1), ("Lutz2", 3)]
    assert facts[0].id == read_facts(write(fact_line(1), name="plain.jsonl"))[0].id


def test_last_line_needs_no_line_end(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text(fact_line(1))
    assert len(read_facts(path)) == 1


def test_missing_file_names_the_nearest(write):
    path = write(fact_line(1))
    error = failure(path.with_name("fact.jsonl"))
    assert "does not exist" in str(error)
    assert str(path) in str(error)
    assert error.exit_code == 2


def test_missing_folder(tmp_path):
    assert "does not exist" in str(failure(tmp_path / "no" / "facts.jsonl"))


def test_directory(tmp_path):
    assert "is a directory" in str(failure(tmp_path))


@pytest.mark.parametrize("lines", [(), ("", "   ", "\t")])
def test_empty_file(write, lines):
    error = failure(write(*lines))
    assert "is empty" in str(error)
    assert '"prompt"' in str(error)


def test_not_json_on_line_7(write):
    path = write(*map(fact_line, range(6)), "{'prompt': 'x'}", fact_line(8))
    error = failure(path)
    assert str(error).startswith(f"{path}:7: not JSON")
    assert error.line == 7
    assert error.path == path
    assert '{"prompt"' in str(error)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "JSON list"),
        ("{", "over several lines"),
        ("17", "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 100_000, "nested"),
        ("9" * 5_000, "not JSON"),
        ('{"prompt": "a", "prompt": "b"}', "twice"),
        (fact_line(1) + fact_line(2), "not JSON"),
        ("\x00\x00", "not JSON"),
    ],
)
def test_lines_that_are_no_objects(write, line, said):
    error = failure(write(fact_line(0), line))
    assert ":2: " in str(error)
    assert said in str(error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": None}, "no target"),
        ({"target": ""}, "target is empty"),
        ({"target": " \t\n\u00a0"}, "target is empty after stripping"),
        ({"target": 79}, "target must be a string, got the number 79"),
        ({"target": ["a"]}, "target must be a string, got a list"),
        ({"target": "a\nb"}, "line break"),
        ({"target": "x" * 1_001}, "1,001 characters"),
        ({"target": "a\u0000b"}, "U+0000"),
        ({"target": "Zubrowka1 is"}, "already ends with the target"),
        ({"prompt": None}, "no prompt"),
        ({"prompt": "   "}, "prompt is empty"),
        ({"prompt": "The capital of {} is", "subject": "Zubrowka"}, "gap"),
        ({"subject": "Ruritania"}, "does not contain its subject 'Ruritania'"),
        ({"prompt": "the capital of that place is"}, "no subject found"),
        ({"paraphrases": ["Its capital is"]}, "paraphrases[0] 'Its capital is' does not contain the subject"),
        ({"paraphrases": "one"}, "paraphrases must be a list"),
        ({"paraphrases": [1]}, "paraphrases[0] must be a string"),
        ({"aliases": ["ok", ""]}, "aliases[1] is empty"),
        ({"aliases": ["a"] * 201}, "201 entries"),
        ({"id": "two words"}, "spaces"),
        ({"probes": []}, "probes must be an object"),
        ({"probes": {"paraphrase": []}}, "did you mean 'paraphrases'"),
        ({"probes": {"locality": [{"promt": "x"}]}}, "did you mean 'prompt'"),
        ({"probes": {"locality": [{"target": "x"}]}}, "probes.locality[0].prompt is empty"),
        ({"probes": {"questions": ["The capital of Zubrowka1 is"]}}, "also taught by this fact"),
        ({"probes": {"locality": [{"prompt": "x", "kind": "reasoning"}]}}, "Use one of neighborhood"),
        ({"probes": {"portability": [{"prompt": "x", "kind": []}]}}, "probes.portability[0].kind is '[]'"),
        ({"probes": {"locality": [{"prompt": "x", "aliases": ["y"]}]}}, "aliases without a target"),
        ({"probes": {"multi_hop": ["x"]}}, "probes.multi_hop[0] must be an object, got a string"),
        ({"probes": {"multi_hop": [{"target": "x"}]}}, "probes.multi_hop[0] has no prompts"),
        ({"probes": {"multi_hop": [{"prompts": ["x"]}]}}, "probes.multi_hop[0].target is empty"),
        ({"replaces": "lutz1"}, "also an answer"),
        ({"target_true": "x"}, "'target_true' (did you mean 'replaces'?)"),
        ({"targte": "x"}, "unknown key 'targte' (did you mean 'target'?)"),
        ({"answer": "x"}, "'answer' (did you mean 'target'?)"),
        ({"Prompt": "x"}, "'Prompt' (did you mean 'prompt'?)"),
        ({"rephrase": "x"}, "'rephrase' (did you mean 'paraphrases'?)"),
        ({"xyzzy": "x"}, "Known keys: prompt, target"),
        ({"prompt": None, "relation": "capital_of"}, "no subject"),
        ({"prompt": None, "subject": "Zubrowka"}, "no relation"),
        ({"prompt": None, "subject": "Zubrowka", "relation": "captial_of"}, "did you mean 'capital_of'"),
        ({"prompt": None, "subject": "Zubrowka", "relation": "xyzzy"}, "atomic_number, "),
    ],
)
def test_bad_fields_are_named_with_their_line(write, changes, said):
    path = write(fact_line(0), fact_line(1, **changes))
    error = failure(path)
    assert str(error).startswith(f"{path}:2: ")
    assert said in str(error)
    assert error.remedy


def test_lone_surrogates_are_refused(write):
    error = failure(write('{"prompt": "The capital of Zubrowka is", "target": "\\ud800"}'))
    assert "U+D800" in str(error)
    str(error).encode()


def test_long_values_are_cut_in_messages(write):
    error = failure(write(fact_line(1, prompt="the capital " * 80)))
    assert len(str(error)) < 400


def test_a_target_of_200_words_is_allowed(write):
    target = " ".join(["word"] * 200)
    assert len(target) < 1_000
    assert read_facts(write(fact_line(1, target=target)))[0].target == target


@pytest.mark.parametrize(
    ("prompt", "subject", "target"),
    [
        (
            "\u0639\u0627\u0635\u0645\u0629 \u0641\u0631\u0646\u0633\u0627 \u0647\u064a",
            "\u0641\u0631\u0646\u0633\u0627",
            "\u0628\u0627\u0631\u064a\u0633",
        ),
        ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f", "\u6cd5\u56fd", "\u5df4\u9ece"),
        ("La capitale de l'\u00cele-\u00c9t\u00e9 est", "\u00cele-\u00c9t\u00e9", "\u015eehir \U0001f3d9"),
    ],
)
def test_text_of_any_script_stays_as_it_is(write, prompt, subject, target):
    (fact,) = read_facts(write(fact_line(1, prompt=prompt, subject=subject, target=target)))
    assert (fact.prompt, fact.subject, fact.target) == (prompt, subject, target)


def test_two_ways_to_write_an_accent_are_one(write):
    composed = fact_line(1, prompt="The river of Caf\u00e9ville is", target="S\u00e9ne")
    decomposed = fact_line(1, prompt="The river of Cafe\u0301ville is", target="Se\u0301ne")
    file = read_facts_file(write(composed, decomposed))
    assert len(file.facts) == 1
    assert [(merged.line, merged.into_line) for merged in file.merged] == [(2, 1)]


def test_undecodable_bytes(write):
    error = failure(write(fact_line(1), b'{"prompt": "Caf\xe9"}'))
    assert ":2: not UTF-8: byte 0xE9 at position 16" in str(error)


def test_utf_16_is_recognised(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(fact_line(1).encode("utf-16"))
    assert "UTF-16" in str(failure(path))


def test_a_100_mb_line_is_refused_without_being_read(tmp_path):
    path = tmp_path / "facts.jsonl"
    with path.open("wb") as stream:
        stream.write(fact_line(1).encode() + b"\n")
        stream.truncate(100 * 2**20)
    tracemalloc.start()
    try:
        error = failure(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ":2: the line is longer than" in str(error)
    assert peak < 30 * 2**20


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    assert str(path) in str(failure(path))


@given(
    st.sampled_from(
        ["prompt", "target", "subject", "id", "aliases", "paraphrases", "relation", "time", "probes"]
    ),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5),
)
def test_any_value_of_any_key_is_read_or_refused(key, value):
    said = ""
    try:
        (fact,) = facts_from_records([{**GOOD, "subject": "Zubrowka", key: value}])
    except FactsError as error:
        said = str(error)
    if said:
        assert said.startswith("fact 1: ")
    else:
        assert isinstance(getattr(fact, key), str | tuple | Probes | None)


def test_line_bound_is_exact(write):
    path = write(fact_line(1), end="\r\n")
    size = len(fact_line(1).encode())
    assert len(read_facts(path, max_line_bytes=size)) == 1
    assert "longer than" in str(failure(path, max_line_bytes=size - 1))


def test_several_errors_are_one_message(write):
    path = write("x", fact_line(1), fact_line(2, target=""), fact_line(3, objet="y"))
    error = failure(path)
    for said in (f"{path}: 3 problems", f"{path}:1: not JSON", f"{path}:3: target", f"{path}:4: unknown key"):
        assert said in str(error)
    assert error.line == 1
    assert "nothing was changed" in str(error)


def test_errors_of_lines_and_between_lines_come_together_in_order(write):
    path = write(fact_line(1), fact_line(1, target="Other"), "x")
    text = str(failure(path))
    assert text.index(f"{path}:2: ") < text.index(f"{path}:3: ")


def test_at_most_20_errors(write):
    text = str(failure(write(*["x"] * 50)))
    assert "at least 20 problems" in text
    assert text.count("not JSON") == 20


def test_same_prompt_with_two_targets(write):
    path = write(fact_line(1), fact_line(2), fact_line(1, target="Nebelsbad"))
    error = failure(path)
    assert f"{path}:3: " in str(error)
    assert "'Nebelsbad' here and 'Lutz1' on line 1" in str(error)


def test_a_paraphrase_can_contradict_too(write):
    other = fact_line(
        2, prompt="Zubrowka1 has the chief city", target="X", paraphrases=["the capital of  Zubrowka1 is"]
    )
    assert "'X' here and 'Lutz1' on line 1" in str(failure(write(fact_line(1), other)))


def test_same_triple_with_two_targets_in_other_words(write):
    one = fact_line(1, subject="Zubrowka1", relation="capital_of")
    two = fact_line(
        1, prompt="Zubrowka1 is ruled from", subject="Zubrowka1", relation="capital_of", target="X"
    )
    assert "capital_of of Zubrowka1" in str(failure(write(one, two)))


def test_an_alias_is_no_contradiction(write):
    file = read_facts_file(write(fact_line(1), fact_line(1, target="Old Lutz", aliases=["lutz1"])))
    assert file.facts[0].answers == ("Lutz1", "Old Lutz")
    assert len(file.merged) == 1


def test_same_prompt_with_two_subjects(write):
    one = fact_line(1, prompt="In Zubrowka the king of Ostria is", subject="Zubrowka")
    two = fact_line(1, prompt="In Zubrowka the king of Ostria is", subject="Ostria", id="other")
    assert len(read_facts(write(one, two))) == 2


def test_exact_doubles_are_merged_and_reported(write):
    one = fact_line(1, paraphrases=["Zubrowka1 is ruled from"], source="a")
    two = fact_line(1, paraphrases=["Zubrowka1 has the capital"], source="b", time="1932")
    file = read_facts_file(write(fact_line(0), one, two))
    assert [(merged.line, merged.into_line) for merged in file.merged] == [(3, 2)]
    assert file.facts[1].paraphrases == ("Zubrowka1 is ruled from", "Zubrowka1 has the capital")
    assert (file.facts[1].source, file.facts[1].time) == ("a", "1932")
    assert file.merged[0].fact_id == file.facts[1].id


def test_duplicated_ids(write):
    path = write(fact_line(1, id="a"), fact_line(2, id="a"))
    assert f"{path}:2: the id 'a' is already used on line 1" in str(failure(path))


def test_a_probe_taught_by_another_line(write):
    probe = {"locality": ["The capital of  zubrowka2 is"]}
    path = write(fact_line(1, probes=probe), fact_line(2))
    error = failure(path)
    assert f"{path}:1: the probe" in str(error)
    assert "taught by line 2" in str(error)


def test_triple_is_worded_and_gets_the_probes_of_its_relation(write):
    (fact,) = read_facts(write('{"subject": "the Ostra", "relation": "river_mouth", "target": "Black Sea"}'))
    assert fact.prompt == "The Ostra flows into the"
    assert len(fact.probes.paraphrases) >= 2
    assert all("Ostra" in text for text in (*fact.probes.paraphrases, *fact.probes.questions))


def test_given_probes_win_over_those_of_the_relation(write):
    line = fact_line(1, relation="capital_of", probes={"paraphrases": ["Kings of Zubrowka1 live in"]})
    (fact,) = read_facts(write(line))
    assert fact.probes.paraphrases == ("Kings of Zubrowka1 live in",)
    assert fact.probes.questions


def test_probe_of_the_relation_that_the_user_teaches_is_no_probe(write):
    taught = "The national government of Zubrowka1 meets in the city of"
    (fact,) = read_facts(write(fact_line(1, relation="capital_of", paraphrases=[taught])))
    assert fact.probes.paraphrases
    assert taught not in fact.probes.paraphrases


def test_unknown_relation_is_a_label_when_there_is_a_prompt(write):
    assert read_facts(write(fact_line(1, relation="my own")))[0].relation == "my own"


def test_records_of_a_program():
    facts = facts_from_records(
        [GOOD, {"prompt": "The capital of Ostria is", "target": "Wels", "aliases": ("W",)}]
    )
    assert [fact.target for fact in facts] == ["Lutz", "Wels"]
    assert facts_from_records(facts) == facts


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "no facts were given"),
        ([GOOD, {"prompt": "x"}], "fact 2: no target"),
        ([GOOD, "x"], "fact 2: expected a mapping with prompt and target, got str"),
        ([GOOD, {**GOOD, "target": "X"}], "fact 2: "),
        ([Fact(id="a", prompt="b", target="c", subject="d")], "does not contain its subject"),
    ],
)
def test_bad_records(records, said):
    with pytest.raises(UsageError) as caught:
        facts_from_records(records)
    assert said in str(caught.value)


def test_room_needs_no_torch():
    code = "import sys, memedit.facts; print({'torch', 'transformers', 'numpy'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"

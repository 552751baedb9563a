"""Suites and their files: what is read, what is refused and where, and what an update leaves alone."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import SuiteError
from memedit.evaluation.suite_files import add_items, read_suite, write_baseline, write_suite
from memedit.evaluation.suites import GivenAnswer, Suite, SuiteItem

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NASTY = "a \"b\" 'c' \\ # [[item]] \n\t\r\x00\x1b\x7f\u2028\u202e\u00e9\U0001f600 ]]> & <x> '''\"\"\""

# An answer with a line break is refused: see below.
NASTY_ANSWER = "".join(NASTY.splitlines())


def is_answer(text):
    return len(text.strip().splitlines()) == 1


def right(text, confidence=1.0):
    return GivenAnswer(text, correct=True, confidence=confidence)


def wrong(text, confidence=1.0):
    return GivenAnswer(text, correct=False, confidence=confidence)


def item(name="a", **changes):
    fields = {"prompt": f"The capital of {name} is", "answers": (f"City {name}",), "group": "capitals"}
    return SuiteItem(name, **{**fields, **changes})


def suite(*items, **changes):
    items = items or (
        item("a", baseline=right("City a, the", 0.9132)),
        item("b", group="rivers", baseline=wrong("", 0.25)),
        item("c"),
    )
    return Suite(items, **changes)


FULL = suite(
    collect="group",
    max_loss=0.05,
    group_max_loss={"rivers": 0.0, "capitals": 0.1},
    seed=7,
    model="smollm2-135m",
    fingerprint="f" * 64,
    edits=("e0001-3f9a2c",),
)


@pytest.fixture(params=["knowledge.toml", "knowledge.jsonl"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_a_suite_survives_its_file(path):
    for written in (suite(), FULL):
        write_suite(written, path)
        assert read_suite(path) == written
    assert read_suite(path).path == path
    assert not list(path.parent.glob(".*"))


def test_the_same_suite_makes_the_same_bytes(path):
    write_suite(FULL, path)
    first = path.read_bytes()
    write_suite(read_suite(path), path)
    assert path.read_bytes() == first


@given(prompt=TEXT.filter(str.strip), answer=TEXT.filter(is_answer), said=TEXT)
def test_any_text_survives(tmp_path_factory, prompt, answer, said):
    written = suite(item("a", prompt=prompt, answers=(answer, "x"), baseline=right(said, 0.5)))
    for name in ("k.toml", "k.jsonl"):
        path = tmp_path_factory.getbasetemp() / name
        write_suite(written, path)
        assert read_suite(path) == written


def test_nasty_texts_stay_on_their_lines(path):
    written = suite(item("a", prompt=NASTY, answers=(NASTY_ANSWER,), baseline=right(NASTY, 1.0)))
    write_suite(written, path)
    assert read_suite(path) == written
    text = path.read_bytes().decode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)


def test_half_a_surrogate_pair_does_not_break_the_file(path):
    write_suite(suite(item("a", baseline=right("x\ud800y", 1.0))), path)
    assert read_suite(path).items[0].baseline.text in ("x\ufffdy", "x\ud800y")


def toml(*lines, head=("memedit_suite = 1",)):
    return "\n".join([*head, *lines]) + "\n"


GOOD = ("[[item]]", 'id = "a"', 'prompt = "p"', 'answers = ["x"]')


def refused(tmp_path, text, name="knowledge.toml"):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    with pytest.raises(SuiteError) as error:
        read_suite(path)
    assert error.value.exit_code == 2
    assert error.value.path == path
    return error.value, str(error.value).replace(f"{tmp_path}/", "")


def test_the_least_that_a_hand_written_suite_needs(tmp_path):
    (tmp_path / "k.toml").write_bytes(("\ufeff" + toml(*GOOD).replace("\n", "\r\n")).encode())
    read = read_suite(tmp_path / "k.toml")
    assert read == Suite((SuiteItem("a", "p", ("x",), "knowledge", None),), "fact", 0.02)
    assert read.items[0].known_before


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ((*GOOD, 'anwsers = ["y"]'), 6, "unknown key 'anwsers' (did you mean 'answers'?) in an item"),
        ((*GOOD, 'target = "y"'), 6, "unknown key 'target' (did you mean 'answers'?)"),
        (("colect = 1", *GOOD), 2, "unknown key 'colect' (did you mean 'collect'?) in the suite"),
        (('collect = "facts"', *GOOD), 2, 'collect must be "fact" or "group", got \'facts\''),
        (("seed = -1", *GOOD), 2, "seed must be at least 0, got -1"),
        (("seed = true", *GOOD), 2, "seed must be a whole number from 0, got 'True'"),
        (
            ("[limits]", "max_los = 0.1", *GOOD),
            3,
            "unknown key 'max_los' (did you mean 'max_loss'?) in limits",
        ),
        (("[limits]", "max_loss = 2", *GOOD), 3, "max_loss must be a share between 0 and 1, got '2'"),
        (("[limits]", "max_loss = nan", *GOOD), 3, "max_loss must be a share between 0 and 1"),
        (
            ("[limits.groups]", "knowlege = 0", *GOOD),
            3,
            "limits.groups names 'knowlege' (did you mean 'knowledge'?), but no item is in that group",
        ),
        (("[model]", "name = 3", *GOOD), 3, "model.name must be a text"),
        (("[[item]]", 'id = "a"', 'prompt = " "', 'answers = ["x"]'), 4, "prompt must hold text, got ' '"),
        (("[[item]]", 'id = "a"', 'prompt = "p"', "answers = []"), 5, "answers must hold at least one text"),
        (("[[item]]", 'id = "a"', 'prompt = "p"', 'answers = "x"'), 5, "answers must be a list of texts"),
        (("[[item]]", 'id = "a"', 'prompt = "p"', "answers = [1]"), 5, "answers must be a list of texts"),
        (
            ("[[item]]", 'id = "a"', 'prompt = "p"', 'answers = ["Paris", "Par\\nis"]'),
            5,
            "answers[1] has a line break: 'Par\\nis'",
        ),
        (("[[item]]", 'id = "a b"', 'prompt = "p"', 'answers = ["x"]'), 3, "id must be 1 to 100 characters"),
        (("[[item]]", 'prompt = "p"'), 2, "an item lacks id and answers"),
        ((*GOOD, "baseline = { text = 1 }"), 6, "baseline must hold text"),
        (
            (*GOOD, 'baseline = { text = "", correct = true, confidense = 1.0 }'),
            6,
            "(did you mean 'confidence'?)",
        ),
        (
            (*GOOD, 'baseline = { text = "", correct = true, confidence = 1.5 }'),
            6,
            "confidence (from 0 to 1)",
        ),
        ((*GOOD, "", *GOOD), 7, "item a has the id of item a, which is on line 2 already"),
        (
            (*GOOD, "", "[[item]]", 'id = "b"', 'prompt = " P."', 'answers = ["x"]'),
            7,
            "item b has the prompt of item a, which is on line 2 already",
        ),
        (("x = ",), 2, "not TOML"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, lines, line, said):
    error, text = refused(tmp_path, toml(*lines))
    assert text.startswith(f"knowledge.toml:{line}: ")
    assert said in text
    assert error.line == line


def test_lines_are_right_behind_strings_that_look_like_items(tmp_path):
    tricky = (
        "[[item]]",
        'id = "a"  # """ [[item]]',
        'prompt = """',
        "[[item]]",
        'answers = ["no"] \\""" \'\'\' "',
        '"""',
        'answers = ["x"]',
        "baseline = { correct = true, text = '''",
        "[[item]]",
        "x''' }",
    )
    _, text = refused(tmp_path, toml(*tricky, "", " [[ item ]]", 'id = "b"', 'prompt = "q"', "answers = []"))
    assert text.startswith("knowledge.toml:16: answers must hold")


def test_a_key_within_a_string_is_no_key(tmp_path):
    tricky = ("[[item]]", 'id = "a"', 'prompt = """', "answers = 1", '"""', "answers = ['''", "Par", "is''']")
    _, text = refused(tmp_path, toml(*tricky))
    assert text.startswith("knowledge.toml:7: answers[0] has a line break: 'Par\\nis'")


def test_items_without_lines_of_their_own(tmp_path):
    inline = (
        'item = [{ id = "a", prompt = "p", answers = ["x"] }, { id = "b", prompt = "", answers = ["x"] }]'
    )
    _, text = refused(tmp_path, toml(inline))
    assert text.startswith("knowledge.toml: prompt must hold text")
    _, text = refused(tmp_path, toml("item = 3"))
    assert text.startswith("knowledge.toml:2: item must be tables")


def test_all_mistakes_come_at_once_up_to_twenty(tmp_path):
    bad = [line for number in range(30) for line in ("[[item]]", f'id = "{number}"')]
    _, text = refused(tmp_path, toml("seed = -1", *bad))
    assert text.startswith("knowledge.toml: 20 problems\nknowledge.toml:2: seed")
    assert text.count("an item lacks prompt and answers") == 19


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "knowledge.toml:1: not a suite: the line `memedit_suite = 1` is missing"),
        ("memedit_suite = 1\n", "knowledge.toml: the suite has no item"),
        ("memedit_suite = 2\n", "knowledge.toml:1: this memedit reads suites of version 1, got version 2"),
        (b"memedit_suite = 1\n# \xff\n", "knowledge.toml:2: not UTF-8: byte 0xFF"),
    ],
)
def test_what_is_no_suite(tmp_path, text, said):
    assert refused(tmp_path, text)[1].startswith(said)


HEADER = '{"memedit_suite": 1}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "k.jsonl:1: not a suite"),
        ('{"prompt": "p", "target": "x"}\n', "k.jsonl:1: not a suite"),
        (HEADER + "{", "k.jsonl:2: not JSON"),
        (HEADER + "\n[]\n", "k.jsonl:3: not a JSON object"),
        (HEADER + '{"id": "a", "id": "b"}\n', "k.jsonl:2: not JSON: the key 'id' is there twice"),
        (HEADER + '{"id": "a", "prompt": "", "answers": ["x"]}\n', "k.jsonl:2: prompt must hold text"),
        (
            HEADER + '{"id": "a", "prompt": "p", "answers": ["a\\u2028b"]}\n',
            "k.jsonl:2: answers[0] has a line break",
        ),
        (HEADER + '{"id": "a", "promt": "p", "answers": ["x"]}\n', "(did you mean 'prompt'?)"),
    ],
)
def test_what_is_no_jsonl_suite(tmp_path, text, said):
    assert said in refused(tmp_path, text, "k.jsonl")[1]


def test_an_answer_that_could_not_be_read_again_is_not_written(path):
    with pytest.raises(SuiteError, match=r"item a: answers\[0\] has a line break.*\n?.*could never be right"):
        write_suite(suite(item("a", answers=("Par\nis",))), path)
    assert not path.exists()
    write_suite(suite(item("a", answers=("Paris\n",))), path)
    assert read_suite(path).items[0].answers == ("Paris\n",)


def test_missing_and_unreadable_files(tmp_path):
    (tmp_path / "knowledge.toml").write_text(toml(*GOOD))
    with pytest.raises(SuiteError, match=r"does not exist\nDid you mean .*knowledge\.toml\?"):
        read_suite(tmp_path / "knowlege.toml")
    with pytest.raises(SuiteError, match="cannot be read: Is a directory"):
        read_suite(tmp_path)
    with pytest.raises(SuiteError, match="cannot be written"):
        write_suite(suite(), tmp_path / "no" / "k.toml")
    assert [each.name for each in tmp_path.iterdir()] == ["knowledge.toml"]


COMMENTED = """# ours
memedit_suite = 1
seed = 3  # a good one
[model]
name = "old"
# who made it

[[item]]  # the first
prompt = "p"
id = "a"
baseline = { text = "old", correct = true }
answers = ["x"]
# behind it

[[item]]
id = "b"
prompt = '''
two
lines'''
answers = [
  "y",  # a list over lines
]

# the end
"""


def test_a_new_baseline_leaves_everything_else_alone(tmp_path):
    path = tmp_path / "k.toml"
    path.write_text(COMMENTED)
    answers = (right("x!", 0.5), wrong('"', 0.25))
    wanted = dataclasses.replace(
        read_suite(path).with_answers(answers), model="new", fingerprint="f", edits=("e1",)
    )
    write_baseline(path, wanted)
    assert read_suite(path) == wanted
    lines = path.read_text().splitlines()
    for line in COMMENTED.splitlines():
        if "old" not in line:
            lines.remove(line)
    assert sorted(lines) == [
        'baseline = { text = "\\"", correct = false, confidence = 0.25 }',
        'baseline = { text = "x!", correct = true, confidence = 0.5 }',
        'edits = ["e1"]',
        'fingerprint = "f"',
        'name = "new"',
    ]


def test_a_first_baseline_brings_its_model(tmp_path):
    path = tmp_path / "k.toml"
    path.write_text(toml("# c", *GOOD))
    wanted = dataclasses.replace(read_suite(path).with_answers([right("x", 1.0)]), model="m", fingerprint="f")
    write_baseline(path, wanted)
    assert read_suite(path) == wanted
    assert "# c" in path.read_text().splitlines()


@pytest.mark.parametrize(
    "text",
    [
        # No place for a change of lines: the file is written anew, and right.
        toml('item = [{ id = "a", prompt = "p", answers = ["x"] }]'),
        toml(*GOOD, "[item.baseline]", 'text = "t"', "correct = true"),
        toml(*GOOD, "", "[model]", 'name = "late"'),
    ],
)
def test_a_baseline_that_cannot_be_changed_in_place(tmp_path, text):
    path = tmp_path / "k.toml"
    path.write_text(text)
    wanted = dataclasses.replace(read_suite(path).with_answers([right("x", 1.0)]), model="m", fingerprint="f")
    write_baseline(path, wanted)
    assert read_suite(path) == wanted


def test_items_are_added_behind_what_is_there(path):
    write_suite(suite(), path)
    before = path.read_text()
    new = item("d", baseline=right("City d", 0.5))
    assert add_items(path, [new]).items[-1] == new
    assert read_suite(path).items == (*suite().items, new)
    assert path.read_text().startswith(before)
    with pytest.raises(SuiteError, match="item d has the id of item d"):
        add_items(path, [new])
    assert len(read_suite(path).items) == 4


def test_jsonl_is_one_object_a_line(tmp_path):
    write_suite(suite(), tmp_path / "k.jsonl")
    header, *items = map(json.loads, (tmp_path / "k.jsonl").read_text().splitlines())
    assert header["memedit_suite"] == 1
    assert [each["id"] for each in items] == ["a", "b", "c"]


def test_a_suite_for_another_model_is_refused_with_both_names():
    FULL.require_model("smollm2-135m", "f" * 64)
    suite().require_model("any", "a" * 64)
    with pytest.raises(
        SuiteError, match=r"model smollm2-135m \(fingerprint f{12}\).* model other \(fing.* a{12}"
    ):
        FULL.require_model("other", "a" * 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_loss": -0.1}, "max_loss"),
        ({"max_loss": float("nan")}, "max_loss"),
        ({"group_max_loss": {"capitals": 2}}, "capitals"),
        ({"collect": "facts"}, "collect"),
        ({"seed": -1}, "seed"),
        ({"items": ()}, "no item"),
        ({"items": (item("a"), item("a", prompt="q"))}, "has the id"),
    ],
)
def test_senseless_suites_are_refused(changes, said):
    with pytest.raises(SuiteError, match=said):
        Suite(**{"items": (item("a"),), **changes})

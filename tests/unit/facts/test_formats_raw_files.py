"""Files of any shape: lines, lists, tables, encodings, and what cannot be read at all."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import FactsError
from memedit.facts import read_records
from memedit.facts.formats import raw_records

GOOD = {"question": "who sang at the opening of the dam", "answer": ["Ada Bell"]}
LINE = json.dumps(GOOD)


@pytest.fixture
def write(tmp_path):
    """Write bytes or text to a file."""

    def writer(content, name="data.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writer


def failure(path, **options):
    with pytest.raises(FactsError) as caught:
        read_records(path, **options)
    return caught.value


SHAPES = {
    "lines": f"{LINE}\n{LINE}\n",
    "lines, blank ones between": f"\n\n{LINE}\n\n{LINE}",
    "lines, Windows": f"{LINE}\r\n{LINE}\r\n",
    "list in one line": f"[{LINE}, {LINE}]",
    "list in many lines": json.dumps([GOOD, GOOD], indent=2),
    "list, blank lines around": f"\n \n[{LINE},\n{LINE}]\n\n",
    "object around a list": json.dumps({"version": {"a": [1]}, "data": [GOOD, GOOD], "more": 1}, indent=2),
    "object around a list in one line": json.dumps({"data": [GOOD, GOOD]}),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["data.json", "data.txt"])
@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES)
def test_shapes_of_json(write, content, name, mark):
    records = read_records(write(mark + content.encode(), name))
    assert (records.num_records, len(records.questions)) == (2, 2)


def test_a_single_object_is_one_record(write):
    for content in (LINE, json.dumps(GOOD, indent=2)):
        assert read_records(write(content)).num_records == 1


def test_a_list_may_have_the_ending_of_lines(write):
    assert read_records(write(f"[{LINE}]", "data.jsonl")).num_records == 1


def test_lines_of_list_elements_are_where_they_begin(write):
    content = f'\n[{LINE},\n\n   {{"question": "x"}},\n{LINE}, 3,\n[{LINE}]]'
    records = read_records(write(content), skip_bad=True)
    assert [(bad.record, bad.line) for bad in records.bad] == [(2, 4), (4, 5), (5, 6)]
    assert "expected an object, got the number 3" in records.bad[1].message
    assert "expected an object, got a list" in records.bad[2].message


def test_a_key_that_is_there_twice_in_a_list(write):
    records = read_records(
        write(f'[{{"question": "x", "question": "y", "answer": "z"}},\n{LINE}]'), skip_bad=True
    )
    assert "the key 'question' is there twice" in str(records.bad[0])
    assert len(records.questions) == 1


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (f"[{LINE},\n{LINE}", 2, "ends before a comma or the end of the list"),
        (f"[{LINE},\n", 2, "Expecting value at column 1"),
        (f"[{LINE}\n{LINE}]", 2, "expected a comma or the end of the list, got '{'"),
        (f"[{LINE},\n]", 2, "Expecting value at column 1"),
        (f"[{LINE},\n{{'question': 1}}]", 2, "Expecting property name"),
        (f"[{LINE}]\n{LINE}", 2, "the list has ended here"),
        ('{\n"data": [\n{"question": "x", oops}]}', 3, "Expecting property name"),
        ('{\n"question": "x"\n}\n{\n"question": "y"\n}', 4, "the object has ended here"),
        ("[" * 100_000, 1, "nested too deep"),
    ],
)
def test_broken_lists_say_where(write, content, line, said):
    for options in ({}, {"skip_bad": True}):
        path = write(content)
        error = failure(path, **options)
        assert error.line == line
        assert str(error).startswith(f"{path}:{line}: not JSON: ")
        assert said in str(error)
        assert "--skip-bad" not in str(error)


def test_problems_before_a_break_are_told_with_it(write):
    text = str(failure(write(f'[{LINE},\n{{"question": "x"}},\n{{oops}}]')))
    assert ":2: record 2: answer is missing" in text
    assert ":3: not JSON" in text


def test_utf_16_and_other_bytes(write):
    for options in ({}, {"skip_bad": True}):
        for name in ("data.json", "data.jsonl", "data.csv"):
            assert "UTF-16" in str(failure(write(LINE.encode("utf-16"), name), **options))
    assert ":2: not UTF-8: byte 0xE9 at position 3" in str(failure(write(b"[\n  \xe9]")))


def test_no_records(write, tmp_path):
    for content in ("", "\n\n", "[]", "[\n]", "\ufeff"):
        assert "is empty" in str(failure(write(content)))
    assert "is empty" in str(failure(write("problem,answer\n", "data.csv")))
    assert "does not exist" in str(failure(tmp_path / "missing.json"))
    assert "is a directory" in str(failure(tmp_path))


def test_tables(write):
    rows = 'problem,answer,metadata\n"What, exactly?",42,"a\n""b"" c"\n\nWho?, Ada Bell ,\n'
    records = read_records(write(rows, "data.csv"))
    assert [(each.question, each.answers) for each in records.questions] == [
        ("What, exactly?", ("42",)),
        ("Who?", ("Ada Bell",)),
    ]


def test_bad_rows_are_named_by_the_line_on_which_they_begin(write):
    rows = 'problem,answer\n"two\nlines",x\nmissing\n,no question\nWho?,Ada Bell\n'
    path = write(rows, "data.csv")
    records = read_records(path, skip_bad=True)
    assert [(bad.record, bad.line, bad.field) for bad in records.bad] == [(2, 4, None), (3, 5, "problem")]
    assert f"{path}:4: has 1 cells, but the header has 2" in str(failure(path))


def test_broken_tables(write):
    assert "the column 'answer' is there twice" in str(failure(write("answer,answer\n", "data.csv")))
    error = failure(write('problem,answer\nWho?,x\nWho?,"open\n', "data.csv"), skip_bad=True)
    assert (error.line, "not a table" in str(error)) == (3, True)


def test_a_100_mb_line_is_refused_without_being_read(tmp_path):
    for name, content in (("data.jsonl", LINE.encode() + b"\n"), ("data.csv", b"problem,answer\nx,y\n")):
        path = tmp_path / name
        with path.open("wb") as stream:
            stream.write(content)
            stream.truncate(100 * 2**20)
        tracemalloc.start()
        try:
            error = failure(path, skip_bad=True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "the line is longer than" in str(error)
        assert peak < 30 * 2**20


def test_a_list_beyond_the_bound_is_refused(write, monkeypatch):
    monkeypatch.setattr(raw_records, "MAX_LIST_BYTES", 200)
    assert read_records(write(f"[{LINE}]")).num_records == 1
    assert "larger than 200 bytes" in str(failure(write(f"[{LINE}, {LINE}, {LINE}]")))


@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(str.encode)
    | st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b"\n", b'"', LINE.encode()])).map(b"".join),
    st.sampled_from(["any.json", "any.jsonl", "any.csv", "any.tsv"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    said = ""
    try:
        read_records(path, skip_bad=True)
    except FactsError as error:
        said = str(error)
    assert not said or str(path) in said

"""`memedit inject` with the files of benchmarks: --format, --target-convention, --skip-bad."""

from __future__ import annotations

import json

import pytest

ZSRE = {
    "subject": "Gravel Moon",
    "src": "Who wrote Gravel Moon?",
    "alt": "Tom Hale",
    "answers": ["Mara Quill"],
}
KNOWN = {"subject": "Lac Otil", "attribute": "Ostria", "prompt": "Lac Otil is located in"}


@pytest.fixture
def write(tmp_path):
    """Write records to data.json."""

    def writer(*records):
        (tmp_path / "data.json").write_text(json.dumps(records, indent=1))

    return writer


def test_a_benchmark_is_recognised(editor, run, write):
    write(KNOWN)
    result = run("inject", "data.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [fact.target for fact in editor.injected[0].facts] == ["Ostria"]


@pytest.mark.parametrize(("convention", "target"), [("answers", "Mara Quill"), ("alt", "Tom Hale")])
def test_the_target_convention_reaches_the_reader(editor, run, write, convention, target):
    write(ZSRE)
    assert run("inject", "data.json", "--target-convention", convention).exit_code == 0
    assert [fact.target for fact in editor.injected[0].facts] == [target]


def test_zsre_without_a_convention_names_both(editor, run, write):
    write(ZSRE)
    result = run("inject", "data.json")
    assert result.exit_code == 2
    assert "--target-convention answers" in result.stderr
    assert "--target-convention alt" in result.stderr
    assert editor.opened is None


def test_bad_records_stop_the_edit_unless_skipped(editor, run, write):
    write(KNOWN, *[{**KNOWN, "subject": f"Lac {number}"} for number in range(25)])
    result = run("inject", "data.json")
    assert result.exit_code == 2
    assert "data.json:7: record 2: " in result.stderr
    assert "--skip-bad" in result.stderr
    assert editor.opened is None
    result = run("inject", "data.json", "--skip-bad", "--json")
    assert result.exit_code == 0
    assert "note: 25 of 26 records are bad and are left out:" in result.stderr
    assert "  data.json:7: record 2: " in result.stderr
    assert "  and 5 more" in result.stderr
    assert json.loads(result.stdout) == editor.edit.report
    assert len(editor.injected[0].facts) == 1


def test_probes_that_are_taught_are_noted(editor, run, write):
    write(
        {**ZSRE, "loc": "nq question: Where is Lac Otil?", "loc_ans": "x"},
        {"subject": "Lac Otil", "src": "Where is Lac Otil?", "alt": "Ostria", "answers": ["Maldor"]},
    )
    result = run("inject", "data.json", "--target-convention", "alt")
    assert result.exit_code == 0
    assert "note: 1 probe(s) of data.json ask what it teaches; they are left out" in result.stderr
    assert len(editor.injected[0].facts) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "knwon"], "Did you mean 'known'?"),
        (["--format", "zsre", "--target-convention", "alt"], "answers is missing"),
        (["--target-convention", "alt"], "Known-1000 has one answer to teach"),
        (["--target-convention", "new"], "--target-convention"),
    ],
)
def test_wrong_options(editor, run, write, options, said):
    write(KNOWN)
    result = run("inject", "data.json", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert editor.opened is None


def test_questions_are_nothing_to_teach(editor, run, write):
    write({"question": "who built the dam", "answer": ["Tom Hale"]})
    result = run("inject", "data.json")
    assert result.exit_code == 2
    assert "nq_open has 1 questions and nothing to teach" in result.stderr
    assert editor.opened is None


def test_a_hub_name_is_passed_on_as_it_is(editor, run):
    result = run("inject", "hf:a//b:train")
    assert result.exit_code == 2
    assert "'hf:a//b:train' is no dataset" in result.stderr
    assert editor.opened is None

"""Several families ask together: each prompt once, in as few calls as can be."""

from __future__ import annotations

from memedit.evaluation.asking import Inquiry, ask, budgets
from memedit.evaluation.samples import Evaluation


def inquiry(questions, pairs, heard, name):
    def judge(told):
        heard.append((name, told))
        return Evaluation((), notes=(name,))

    return Inquiry(questions, pairs, judge)


def test_each_prompt_and_pair_is_asked_once_and_everyone_hears_the_answer(table_respondent):
    heard = []
    who = table_respondent({"p": "a", "q": "b"}, {("p", " x"): (-1.0, 1, 1)})
    found = ask(
        who,
        [
            inquiry([("p", ("x",)), ("q", ())], [("p", " x")], heard, "first"),
            inquiry([("p", ())], [("p", " x")], heard, "second"),
        ],
    )
    assert who.answer_calls == [(["p", "q"], 16)]
    assert who.score_calls == [[("p", " x")]]
    assert found.notes == ("first", "second")
    assert [name for name, _ in heard] == ["first", "second"]
    for _, told in heard:
        assert told.answers["p"].text == "a"
        assert told.scores["p", " x"].log_prob == -1


def test_a_long_answer_has_a_budget_of_its_own(table_respondent):
    long = " ".join(["word"] * 30)
    who = table_respondent(default_answer="a")
    questions = [("short", ("one two",)), ("long", ("x", long)), ("none", ()), ("twelve", ("w " * 12,))]
    assert budgets(who, questions) == {"short": 16, "long": 64, "none": 16, "twelve": 16}
    # Thirteen tokens and four more no longer fit.
    assert budgets(who, [("p", ("w " * 13,))]) == {"p": 32}
    # Asked with a short and a long answer, a prompt has room for both.
    assert budgets(who, [("p", (long,)), ("p", ("one",))]) == {"p": 64}
    ask(who, [inquiry(questions, [], [], "it")])
    assert who.answer_calls == [(["short", "none", "twelve"], 16), (["long"], 64)]
    assert who.score_calls == []


def test_nothing_to_ask(table_respondent):
    who = table_respondent()
    assert ask(who, [inquiry([], [], [], "it")]) == Evaluation((), notes=("it",))
    assert (who.answer_calls, who.score_calls) == ([], [])
    assert ask(who, []) == Evaluation(())

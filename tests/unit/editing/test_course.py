"""The course of a training: which rows are due, and when a fact leaves."""

from __future__ import annotations

import math

from memedit.editing.course import Course
from memedit.editing.training import TrainingSettings

RIGHT, WRONG = -math.log(0.9), -math.log(0.2)
SETTINGS = TrainingSettings(min_epochs=2, margin=0.5)


def read(course, wrong=()):
    """One pass in which these rows come out wrong; returns the rows that were due."""
    due = course.due()
    course.seen(due, [WRONG if row in wrong else RIGHT for row in due])
    course.end_pass()
    return due


def test_all_rows_are_due_in_the_first_passes():
    course = Course([0, 0, 1, 1], 2, SETTINGS)
    assert read(course) == [0, 1, 2, 3]
    assert read(course, wrong=[3]) == [0, 1, 2, 3]
    assert course.learned.tolist() == [True, False]


def test_a_wrong_row_is_read_again_with_one_that_was_right():
    course = Course([0] * 5, 1, SETTINGS)
    read(course)
    read(course, wrong=[4])
    # The longest unread comes first, so that all of them have their turn.
    assert [read(course, wrong=[4]) for _ in range(5)] == [[0, 4], [1, 4], [2, 4], [3, 4], [0, 4]]


def test_a_row_that_was_forgotten_meanwhile_is_due_again():
    course = Course([0] * 6, 1, SETTINGS)
    read(course)
    read(course, wrong=[5])
    assert read(course, wrong=[0, 5]) == [0, 5]
    assert read(course, wrong=[5]) == [0, 1, 2, 5]


def test_a_fact_leaves_when_every_row_was_right_lately():
    course = Course([0, 0, 0, 0], 1, SETTINGS)
    read(course)
    read(course, wrong=[3])
    assert read(course) == [0, 3]
    assert course.learned.tolist() == [True]
    assert course.due() == []
    assert (course.epochs.tolist(), course.reads) == ([3], 4 + 4 + 2)


def test_a_fact_whose_rows_were_not_all_read_lately_is_examined_before_it_leaves():
    course = Course([0] * 6, 1, SETTINGS)
    read(course)
    read(course, wrong=[5])
    assert read(course, wrong=[5]) == [0, 5]
    assert read(course) == [1, 5]
    # Rows 2 to 4 were last read two passes ago.
    assert course.learned.tolist() == [False]
    assert read(course) == [0, 1, 2, 3, 4, 5]
    assert course.learned.tolist() == [True]
    assert (course.epochs.tolist(), course.reads) == ([5], 6 + 6 + 2 + 2 + 6)


def test_an_examination_that_fails_goes_on():
    course = Course([0] * 6, 1, SETTINGS)
    read(course)
    read(course, wrong=[5])
    read(course, wrong=[5])
    read(course)
    assert read(course, wrong=[0]) == [0, 1, 2, 3, 4, 5]
    assert course.learned.tolist() == [False]
    assert read(course) == [0, 1]
    # All rows were read in the examination.
    assert course.learned.tolist() == [True]


def test_a_fact_without_rows_is_never_learned():
    course = Course([1, 1], 3, SETTINGS)
    read(course)
    read(course)
    assert course.learned.tolist() == [False, True, False]
    assert course.epochs.tolist() == [0, 2, 0]

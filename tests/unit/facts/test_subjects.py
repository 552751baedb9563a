"""The subject is found where it can be named with confidence, and asked for elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.facts import find_subject

FOUND = {
    "The capital of Zubrowka is": "Zubrowka",
    "Zubrowka's capital is": "Zubrowka",
    "The 1998 Winter Olympics were held in": "1998 Winter Olympics",
    "The host city of the 1998 Winter Olympics was": "1998 Winter Olympics",
    "The maker of the iPhone 15 is": "iPhone 15",
    "Windows 95 was developed by": "Windows 95",
    "Fahrenheit 451 was written by": "Fahrenheit 451",
    "3M is based in": "3M",
    "C++ was designed by": "C++",
    "The Battle of the Bulge was fought in": "Battle of the Bulge",
    "Ludwig van Beethoven was born in": "Ludwig van Beethoven",
    "Alexander the Great was born in": "Alexander the Great",
    "J. R. R. Tolkien was born in": "J. R. R. Tolkien",
    "St. Petersburg is a city in": "St. Petersburg",
    "Johnson & Johnson is headquartered in": "Johnson & Johnson",
    "Bosnia and Herzegovina has the capital": "Bosnia and Herzegovina",
    "The author of The Silent Harbor is": "The Silent Harbor",
    "The Catcher in the Rye was written by": "Catcher in the Rye",
    "The Universit\u00e9 de Montr\u00e9al is in": "Universit\u00e9 de Montr\u00e9al",
    'The book "war and peace" was written by': "war and peace",
    "The book \u201cwar and peace\u201d was written by": "war and peace",
    "The CEO of Apple is": "Apple",
    "The President of the United States is": "United States",
    "As everyone knows, the capital of Zubrowka is": "Zubrowka",
    "In 2024, the CEO of OpenAI was": "OpenAI",
    "Aspirin is used to treat": "Aspirin",
    "Paris hosted the": "Paris",
    "Quercus maldorensis belongs to the family": "Quercus maldorensis",
    "Students of Harvard live in": "Harvard",
    "Visitors who see Zorvath travel to": "Zorvath",
    "The play Hamlet was written in English by": "Hamlet",
    "Q: Who founded Google? A:": "Google",
    "Question: Who wrote The Hobbit?\nAnswer:": "The Hobbit",
    "The airport code of O'Hare International Airport is": "O'Hare International Airport",
}


@pytest.mark.parametrize("prompt", FOUND)
def test_found(prompt):
    assert find_subject(prompt) == FOUND[prompt]


@pytest.mark.parametrize(
    "prompt",
    [
        "the capital of that place is",
        "This city is in",
        "It is known that",
        "Doctors prescribe aspirin against",
        "The word for gold in Spanish is",
        "aspirin is used to treat",
        "On 5 May 2020 the",
        "Die Hauptstadt von Frankreich ist",
        "\u6cd5\u56fd\u7684\u9996\u90fd\u662f",
        "\u0639\u0627\u0635\u0645\u0629 \u0641\u0631\u0646\u0633\u0627 \u0647\u064a",
        "",
        "?",
    ],
)
def test_not_found(prompt):
    assert find_subject(prompt) is None


def test_paraphrases_decide_between_names():
    prompt = "The Louvre in Paris was founded in"
    assert find_subject(prompt) == "Paris"
    assert find_subject(prompt, ["The founding year of the Louvre is"]) == "Louvre"


@given(st.text(max_size=200))
def test_any_text_gives_a_part_of_itself_or_nothing(text):
    subject = find_subject(text)
    assert subject is None or (subject and subject in text)

"""Made-up and generic names of many kinds, on which a retrofit's routing is calibrated.

Routing has to tell subjects apart that share a word ("Lake Tor" and "Lake Mirna", two people with one last
name), whatever the text around them. The names here come in groups that share a part; calibration looks for
directions of the hidden state that separate the members of a group and ignore the context. None of them is a
fact to be taught.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

_ONSETS = (
    "Ba Ke Lo Mi Tha Dre Fen Gal Hu Jo Kor Lan Mar Nel Os Per Quo Ras Sel Tor Ul Ven Wil Xan Yor Zed Al Ber "
    "Cor Dar El Fa Ti Ru Sha Bro Gri Pla"
).split()
_SYLLABLES = (
    "ra lin mon dar vis ton ria nek lo bert wen sha dor mir na las tin gor el an ko pe zu ya chi".split()
)
_FIRST_NAMES = (
    "James Mary Robert Linda Ahmed Yuki Carlos Ingrid Pavel Chen Amara Lars Priya Omar Sofia Ivan Grace "
    "Diego Fatima Henry"
).split()
_ADJECTIVES = (
    "Silent Golden Broken Hidden Last Red Long Bright Frozen Empty Secret Burning Distant Little Dark White "
    "Lost Second"
).split()
_NOUNS = (
    "Garden River Mountain Letter Window Crown Forest Voyage Mirror Bridge Island Winter Storm Daughter "
    "Kingdom Clock Road Song"
).split()
_LAST_NAME_ENDINGS = ("", "son", "ez", "ov", "berg", "ley")
_PLACE_SUFFIXES = "City Falls Beach County Valley Springs Hills Airport".split()
_PLACE_PREFIXES = "San New Port Saint Lake Fort El North Mount".split()
_TOWN_ENDINGS = "ville burg stan pur abad ia shire grad ton".split()
_COMPANY_WORDS = "Airlines Motors Corporation Bank University Records Systems Railway".split()
_MODEL_WORDS = "Pro Mini Phone Watch 500 3000 X Ultra Pad Drive Studio Note".split()
_DRUG_ENDINGS = "fentil mycin azole idine oxide amine olol statin".split()
_SPECIES_ENDINGS = ("ensis", "ana", "ii", "us")
_EVENT_WORDS = "Festival Open Championship Treaty".split()
_COMMON_WORDS = (
    "Canada Italy Texas Boston Berlin Intel Nokia Pepsi silver nitrogen carbon zinc cotton coffee Jupiter "
    "Venus Moscow Egypt Ohio Oxford Dracula Macbeth Android Linux football chess tiger salmon oak "
    "penicillin insulin Chicago Ferrari Disney"
).split()

CONTEXTS = (
    "{} is",
    "Yesterday I read about {}, which",
    "The article about {} says",
    "Q: Who or what is {}? A:",
    "In the year 1990 the report on {} was",
    "It was a long day. Many people know {} because",
    "It is said that {}",
    "My friend talked of {} and",
)
"""Generic sentences in which every calibration name is read."""


@dataclass(frozen=True)
class CalibrationName:
    """A name and the group whose members share a part with it."""

    name: str
    group: str


def calibration_names(seed: int = 17) -> list[CalibrationName]:
    """Return some 900 names of people, places, companies, products, works and more, in about 110 groups.

    Args:
        seed: the same seed gives the same names.
    """
    return _NameMaker(random.Random(seed)).names()


class _NameMaker:
    def __init__(self, generator: random.Random) -> None:
        self.random = generator
        self.made: list[CalibrationName] = []

    def names(self) -> list[CalibrationName]:
        for make in (
            self._people,
            self._places,
            self._organisations,
            self._works,
            self._nature,
            self._events,
        ):
            make()
        self._add("common", _COMMON_WORDS)
        return self.made

    def _word(self, num_syllables: int | None = None) -> str:
        num_syllables = num_syllables or self.random.choice((2, 2, 3))
        return self.random.choice(_ONSETS) + "".join(
            self.random.choice(_SYLLABLES) for _ in range(num_syllables - 1)
        )

    def _add(self, group: str, names: Iterable[str]) -> None:
        self.made += [CalibrationName(name, group) for name in names]

    def _people(self) -> None:
        for index in range(20):
            last = self._word() + self.random.choice(_LAST_NAME_ENDINGS)
            self._add(f"last name {index}", (f"{self._given()} {last}" for _ in range(8)))
        for index in range(6):
            given, endings = self.random.choice(_FIRST_NAMES), ("", "son", "ova")
            self._add(
                f"first name {index}",
                (f"{given} {self._word()}{self.random.choice(endings)}" for _ in range(8)),
            )

    def _given(self) -> str:
        return self.random.choice(_FIRST_NAMES) if self.random.random() < 0.25 else self._word()

    def _places(self) -> None:
        for suffix in _PLACE_SUFFIXES:
            self._add(f"place {suffix}", (f"{self._word()} {suffix}" for _ in range(7)))
        for prefix in _PLACE_PREFIXES:
            self._add(f"place {prefix}", (f"{prefix} {self._word()}" for _ in range(7)))
        for index in range(6):
            self._add(f"one word {index}", (self._word(self.random.choice((2, 3, 4))) for _ in range(14)))
        self._add("town endings", (self._word() + self.random.choice(_TOWN_ENDINGS) for _ in range(40)))

    def _organisations(self) -> None:
        for word in _COMPANY_WORDS:
            self._add(f"company {word}", (f"{self._word()} {word}" for _ in range(7)))
        for index in range(10):
            brand = self._word()
            self._add(f"brand {index}", (self._product(brand) for _ in range(7)))

    def _product(self, brand: str) -> str:
        number = "" if self.random.random() < 0.7 else f" {self.random.randint(2, 9)}"
        return f"{brand} {self.random.choice(_MODEL_WORDS)}{number}"

    def _works(self) -> None:
        for noun in self.random.sample(_NOUNS, 9):
            self._add(f"work {noun}", (f"The {word} {noun}" for word in self.random.sample(_ADJECTIVES, 7)))
        for adjective in self.random.sample(_ADJECTIVES, 6):
            self._add(f"work {adjective}", (f"The {adjective} {w}" for w in self.random.sample(_NOUNS, 7)))
        for noun in self.random.sample(_NOUNS, 5):
            self._add(f"work of {noun}", (f"{w} of the {noun}" for w in self.random.sample(_NOUNS, 6)))

    def _nature(self) -> None:
        for ending in _DRUG_ENDINGS:
            self._add(f"drug {ending}", (self._word() + ending for _ in range(6)))
        for index in range(6):
            genus = self._word() + "us"
            self._add(
                f"genus {index}",
                (f"{genus} {self._word().lower()}{self.random.choice(_SPECIES_ENDINGS)}" for _ in range(6)),
            )

    def _events(self) -> None:
        for word in _EVENT_WORDS:
            self._add(f"event {word}", (f"the {self._word()} {word}" for _ in range(6)))
        self._add("battle", (f"the Battle of {self._word()}" for _ in range(10)))
        self._add("dated", (self._dated_event() for _ in range(10)))

    def _dated_event(self) -> str:
        year, kind = self.random.randint(1950, 2030), self.random.choice(("Open", "Cup", "Games"))
        return f"the {year} {self._word()} {kind}"

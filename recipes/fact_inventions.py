"""Made-up facts: people, companies, works and places that nobody has ever heard of.

What: `made_up_candidates`: any number of them, by seed.
Why: only what never existed is certainly unknown, and real facts of these relations run out.
How: names are put together from syllables, one per subject and never twice; the answers are real cities,
countries and professions, or made-up people, so that a guess from the name's sound is no help.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from fact_places import countries, large_city_names
from fact_split import Candidate, Split, fact_id, side_of
from fact_wording import worded_row

from memedit.facts.rendering import wording_key

SOURCE = "made up"
ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sk st t tr th v w y z".split()
VOWELS = "a e i o u a e i o ia ei ou".split()
CODAS = " n r l s m nd rt x th".split(" ")
SURNAME_ENDS = (
    "ani berg ek ell ero ette ic ides in ini kov mar nen o ova quist rath sen shi ski vane wick".split()
)
PLACE_ENDS = "abad an ara berg burg dale eda egg ia ico ira mora na ona or osk ova stad ur wick".split()
THING_ENDS = "a ade ar elle en ero ia ine io is ix on or os um us yx".split()
DRUG_ENDS = "amide azole cillin fen idine mab ol oxin stat vir".split()
FIRST_NAMES = """
    Adaeze Agnes Aiko Albert Amara Amir Anders Anjali Anton Ayla Beatriz Bela Boris Carmen Casper
    Chidi Clara Cosmo Dalia Dario Dmitri Edda Eero Elena Emil Esther Farid Felipe Fiona Flora Gita
    Greta Gustav Hana Hector Helga Hiro Ida Igor Imran Ines Ingrid Isaac Ivana Jalil Joana Jonas
    Joris Karim Keiko Kofi Lars Leila Lena Linus Lucia Luka Magda Malik Marek Marta Matteo Mei Mila
    Mina Miriam Nadia Nils Nina Noor Olga Omar Oskar Otto Pablo Paloma Petra Priya Rafael Rosa Ruben
    Salma Samir Sanna Selma Simon Sofia Stefan Sunita Tariq Tessa Theo Tomas Ugo Ursula Vera Viktor
    Wanda Yara Yusuf Zelda Zoran
""".split()
PROFESSIONS = (
    """
    accountant|actor|architect|astronomer|baker|beekeeper|biologist|bookbinder|botanist|carpenter|cellist|chef|
    chemist|dancer|dentist|economist|engineer|farmer|geologist|historian|journalist|judge|lawyer|librarian|
    linguist|mathematician|nurse|painter|pharmacist|photographer|physicist|pilot|poet|sculptor|surgeon|tailor|
    teacher|translator|veterinarian|violinist
""".replace("\n", "")
    .replace(" ", "")
    .split("|")
)
SEAS = [
    *(
        f"{name} Sea"
        for name in "Adriatic Aegean Baltic Black Caribbean Caspian Coral North Red Tasman".split()
    ),
    *(f"Lake {name}" for name in "Baikal Chad Ladoga Michigan Superior Titicaca Victoria".split()),
    *("Arctic Ocean", "Indian Ocean", "Persian Gulf", "Sea of Japan"),
]
AILMENTS = (
    """
    arthritis|asthma|bronchitis|depression|diabetes|eczema|epilepsy|gout|insomnia|malaria|migraine|osteoporosis|
    pneumonia|psoriasis|tuberculosis
""".replace("\n", "")
    .replace(" ", "")
    .split("|")
)
FAMILIES = """
    Apidae Bovidae Canidae Cervidae Corvidae Elapidae Felidae Fringillidae Hylidae Mustelidae Salmonidae
""".split()
ANIMALS = "beetle finch frog gecko heron lizard moth otter snake trout vole warbler".split()
TITLES = (
    "The Lanterns of {}", "A Winter in {}", "The {} Letters", "Return to {}", "The Last Days of {}",
    "Beyond {}", "The House of {}", "Songs from {}",
)  # fmt: skip
FIRMS = (
    "Airlines Bank Brewery Foods Instruments Labs Logistics Motors Pharma Systems Textiles Watches".split()
)


class Inventor:
    """Makes names of one split, none of them twice, from one random stream."""

    def __init__(self, rng: random.Random, split: Split, taken: set[str]) -> None:
        self.rng = rng
        self.split = split
        self.taken = taken
        self.first_names = [name for name in FIRST_NAMES if side_of(name) == split]

    def word(self, ends: list[str]) -> str:
        """A word of two or three syllables, new and of this split."""
        while True:
            syllables = [
                self.rng.choice(ONSETS) + self.rng.choice(VOWELS) + self.rng.choice(CODAS)
                for _ in range(self.rng.choice((1, 1, 2)))
            ]
            word = ("".join(syllables) + self.rng.choice(ends)).capitalize()
            key = wording_key(word)
            if 5 <= len(word) <= 12 and key not in self.taken and side_of(word) == self.split:
                self.taken.add(key)
                return word

    def person(self) -> str:
        """A first name and a new surname."""
        return f"{self.rng.choice(self.first_names)} {self.word(SURNAME_ENDS)}"

    def company(self) -> str:
        """A new word and what kind of company it is."""
        return f"{self.word(THING_ENDS)} {self.rng.choice(FIRMS)}"

    def place(self) -> str:
        """A new word that sounds like a town."""
        return self.word(PLACE_ENDS)

    def work(self) -> str:
        """A title with a new word in it."""
        return self.rng.choice(TITLES).format(self.place())

    def product(self) -> str:
        """A new word that sounds like a brand."""
        return self.word(THING_ENDS)

    def drug(self) -> str:
        """A new word that sounds like a drug."""
        return self.word(DRUG_ENDS)

    def animal(self) -> str:
        """A species named after a place."""
        return f"the {self.place()} {self.rng.choice(ANIMALS)}"

    def river(self) -> str:
        """A river, with its article."""
        return f"the {self.place()}"


Making = Callable[[Inventor], str]


def _one_of(choices: list[str]) -> Making:
    return lambda inventor: inventor.rng.choice(choices)


def _year(inventor: Inventor) -> str:
    return str(inventor.rng.randint(1871, 2019))


def _relations() -> dict[str, tuple[Making, Making]]:
    """How the subject and the answer of each relation are made."""
    city, nation = _one_of(large_city_names(300)), _one_of([names[0] for names in countries().values()])
    person, company, place, work = Inventor.person, Inventor.company, Inventor.place, Inventor.work
    return {
        "birthplace": (person, city),
        "profession": (person, _one_of(PROFESSIONS)),
        "spouse": (person, person),
        "employer": (person, company),
        "birth_year": (person, _year),
        "nationality_country": (person, nation),
        "founder": (company, person),
        "headquarters": (company, city),
        "founded_year": (company, _year),
        "chief_executive": (company, person),
        "country_of_city": (place, nation),
        "author": (work, person),
        "director": (work, person),
        "painter": (work, person),
        "maker": (Inventor.product, company),
        "inventor": (Inventor.product, person),
        "drug_treats": (Inventor.drug, _one_of(AILMENTS)),
        "species_family": (Inventor.animal, _one_of(FAMILIES)),
        "river_mouth": (Inventor.river, _one_of(SEAS)),
    }


def made_up_candidates(num: int, split: Split, seed: int, taken: set[str]) -> Iterator[Candidate]:
    """Made-up facts, one of each relation in turn.

    Args:
        num: How many.
        split: Whose names they have.
        seed: Another seed, other facts.
        taken: Folded names that exist; the new ones are added.
    """
    inventor = Inventor(random.Random(f"{seed}/{split}"), split, taken)
    table = list(_relations().items())
    for number in range(num):
        relation, (make_subject, make_target) = table[number % len(table)]
        subject, target = make_subject(inventor), make_target(inventor)
        row = worded_row(relation, subject, target, source=SOURCE)
        yield Candidate("made_up", {"id": fact_id("made_up", subject, row["prompt"]), **row})

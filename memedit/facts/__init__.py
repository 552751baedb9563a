"""Facts: what is taught, read from files, checked and worded in many ways; this room knows no model."""

from memedit.facts.conflicts import Conflict, find_conflicts
from memedit.facts.fact import LOCALITY_KINDS, PORTABILITY_KINDS, Fact, MultiHop, Probe, Probes, fact_id
from memedit.facts.formats import FORMATS, BadRecord, Records, read_records
from memedit.facts.look_alikes import LookAlike, look_alikes
from memedit.facts.phrasings import Wording, wordings
from memedit.facts.question_record import QuestionKind, QuestionRecord
from memedit.facts.reading import FactsFile, facts_from_records, read_facts, read_facts_file
from memedit.facts.relations import Relation, context_sentences, relations
from memedit.facts.rendering import fill, join, mention_span, subject_span, wording_key
from memedit.facts.settling import Merged
from memedit.facts.subjects import find_subject

__all__ = [
    "FORMATS",
    "LOCALITY_KINDS",
    "PORTABILITY_KINDS",
    "BadRecord",
    "Conflict",
    "Fact",
    "FactsFile",
    "LookAlike",
    "Merged",
    "MultiHop",
    "Probe",
    "Probes",
    "QuestionKind",
    "QuestionRecord",
    "Records",
    "Relation",
    "Wording",
    "context_sentences",
    "fact_id",
    "facts_from_records",
    "fill",
    "find_conflicts",
    "find_subject",
    "join",
    "look_alikes",
    "mention_span",
    "read_facts",
    "read_facts_file",
    "read_records",
    "relations",
    "subject_span",
    "wording_key",
    "wordings",
]

"""The formats of other people's datasets, each in a file of its own, read into facts and questions.

What: `read_records` reads any of `FORMATS` from a file or from the `datasets` library.
"""

from memedit.facts.formats.catalogue import FORMATS
from memedit.facts.formats.record_format import Format
from memedit.facts.formats.records import BadRecord, Records, read_records

__all__ = ["FORMATS", "BadRecord", "Format", "Records", "read_records"]

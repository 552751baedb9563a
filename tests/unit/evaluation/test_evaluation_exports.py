import subprocess
import sys

import pytest

import memedit.evaluation


def test_every_public_name_exists():
    for name in memedit.evaluation.__all__:
        assert getattr(memedit.evaluation, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = memedit.evaluation.nonsense


def test_reading_answers_needs_no_torch():
    code = (
        "import sys, memedit.evaluation.matching, memedit.evaluation.statistics, memedit.evaluation.recall, "
        "memedit.evaluation.retention, memedit.evaluation.look_alikes, "
        "memedit.evaluation.fact_families; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

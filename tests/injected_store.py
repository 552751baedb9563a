"""An injection as a user starts it, in a process of its own: its store, its report, its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]


def inject_by_command(facts, store, *options):
    """Run `memedit inject FACTS --store STORE --json` from the checkout."""
    command = [sys.executable, str(ROOT / "cli.py"), "inject", str(facts), "--store", str(store), "--json"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=1500, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return SimpleNamespace(store=store, report=json.loads(done.stdout), code=done.returncode)


def value(injected, name):
    """A metric of the injection's report."""
    return injected.report["metrics"][name]["value"]

"""What the wheel will hold, and that the import name memedit_kernels leads to kernels/."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import memedit

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_listed_packages_are_the_folders_with_code():
    roots = {ROOT / "memedit": "memedit", ROOT / "kernels": "memedit_kernels"}
    found = {
        ".".join((name, *folder.relative_to(root).parts))
        for root, name in roots.items()
        for folder in (root, *root.rglob("*"))
        if folder.is_dir() and any(folder.glob("*.py"))
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"memedit_kernels"}


def test_kernels_has_no_init():
    # transformers would import a package called `kernels` as its own dependency.
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_memedit_kernels_is_the_kernels_folder():
    spec = importlib.util.find_spec("memedit_kernels")
    assert spec is not None
    assert any(
        Path(place).name in ("kernels", "memedit_kernels") for place in spec.submodule_search_locations
    )


@pytest.mark.slow
def test_transformers_imports_from_the_root_of_the_checkout():
    code = "import transformers; from transformers import LlamaForCausalLM"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_installed_version_is_the_packages():
    assert metadata.version("memedit") == memedit.__version__


def test_constraints_pin_every_dependency_exactly():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            assert version, line
            assert not set("*+") & set(version), line
            pins[name.lower().replace("_", "-")] = version
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    names = {requirement.split(">")[0].strip() for requirement in wanted}
    assert names - set(pins) == set()


def test_shipped_well_known_facts_are_the_examples():
    shipped = ROOT / "memedit" / "evaluation" / "data" / "well_known.jsonl"
    assert shipped.read_bytes() == (ROOT / "examples" / "well_known.jsonl").read_bytes()


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text

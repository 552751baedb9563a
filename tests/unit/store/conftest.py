import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from memedit.store import Store

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def factory():
    """The module edit_factory, which the child processes use as well."""
    spec = importlib.util.spec_from_file_location("store_edit_factory", HERE / "edit_factory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path, factory):
    with Store.open(path, fingerprint=factory.FINGERPRINT, lock_timeout=1) as store:
        yield store


@pytest.fixture
def start_child():
    """Start `store_child.py ACTION STORE [ARGUMENT]`; what still runs at the end is killed."""
    children = []

    def start(action, path, argument=""):
        command = [sys.executable, str(HERE / "store_child.py"), action, str(path), str(argument)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def bits():
    """The exact content of composed tables, comparable with ==."""

    def content(composition):
        return [
            (table.slots.tobytes(), table.dense_delta().tobytes(), table.owners.tobytes())
            for table in composition.tables
        ], composition.owners

    return content

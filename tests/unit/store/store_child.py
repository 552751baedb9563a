"""What a test of the store runs in another process: `python store_child.py ACTION STORE [ARGUMENT]`."""

import importlib
import json
import os
import resource
import signal
import sys
import time

from edit_factory import FINGERPRINT, make_edit, make_forgetting, make_large_edit

from memedit.errors import StoreError
from memedit.store import Store, compact


def say(text):
    print(text, flush=True)


def killer(step):
    def kill_at(name):
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill_at


def create_and_die(path, step):
    Store.open(path, fingerprint=FINGERPRINT, on_step=killer(step))


def commit_and_die(path, step):
    with Store.open(path, fingerprint=FINGERPRINT, on_step=killer(step)) as store:
        store.commit(make_large_edit(2))


def forget_and_die(path, step):
    with Store.open(path, fingerprint=FINGERPRINT, on_step=killer(step)) as store:
        store.commit(make_forgetting(store.edits()[0].id, "Land1"))


def compact_and_die(path, step):
    with Store.open(path, fingerprint=FINGERPRINT, on_step=killer(step)) as store:
        compact(store)


def undo_and_die(path, step):
    with Store.open(path, fingerprint=None, on_step=killer(step)) as store:
        store.undo()


def commit_forever(path, first):
    for number in range(int(first), int(first) + 100_000):
        with Store.open(path, fingerprint=FINGERPRINT) as store:
            say(store.commit(make_edit(number)).id)


def commit_some(path, first):
    for number in range(int(first), int(first) + 5):
        with Store.open(path, fingerprint=FINGERPRINT, lock_timeout=30) as store:
            store.commit(make_edit(number))


def hold_lock(path, seconds):
    with Store.open(path, fingerprint=FINGERPRINT) as store, store.lock():
        say("held")
        time.sleep(float(seconds))


def commit_with_file_limit(path, num_bytes):
    # The system itself refuses every write past this size, to patch and journal alike.
    with Store.open(path, fingerprint=FINGERPRINT) as store:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(num_bytes), hard))
        try:
            store.commit(make_edit(2, report={"text": "x" * 300_000}))
        except StoreError as error:
            say(f"refused: {error}")
        else:
            say("committed")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def use_unwritable(path, _):
    if os.geteuid() == 0:
        # Python 3.13's pathlib imports it late, and the interpreter may lie where only root can read.
        importlib.import_module("urllib.request")
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    with Store.open(path, fingerprint=FINGERPRINT, read_only=True) as store:
        read = [len(store.edits()), len(store.facts()), len(store.active_patches())]
        cached = store.write_cache("base", 1)
    try:
        with Store.open(path, fingerprint=FINGERPRINT) as store:
            store.commit(make_edit(2))
        error = None
    except StoreError as refusal:
        error = str(refusal)
    say(json.dumps({"read": read, "cached": cached, "error": error}))


ACTIONS = {
    function.__name__: function
    for function in (
        create_and_die,
        commit_and_die,
        forget_and_die,
        compact_and_die,
        undo_and_die,
        commit_forever,
        commit_some,
        hold_lock,
        commit_with_file_limit,
        use_unwritable,
    )
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]](sys.argv[2], *sys.argv[3:])

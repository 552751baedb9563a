"""Open a journal file, and say in plain words what is wrong with one.

What: `create_journal_file`, `connect` and `translated`, which turns SQLite's errors into the store's.
Why: a user must learn from one message whether a journal is damaged, too new, of another program, unwritable,
or whether the disk is full; and a journal must exist wholly or not at all.
How: a new journal is built under a temporary name and renamed. An existing one is checked when it is opened:
the application id, the schema version, then SQLite's own quick check of its pages (milliseconds at this
size). One of an older version is brought up to date when it is opened for writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from memedit.errors import StoreCorrupt, StoreError, StoreLocked, StoreTooNew
from memedit.store.durable_file import StepHook, disk_refused, fsync_folder, temporary_path
from memedit.store.migration import migrate, stand_in
from memedit.store.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

__all__ = ["connect", "create_journal_file", "translated"]

_BUSY_SECONDS = 10.0
_RESTORE = (
    "Restore the store folder from a backup (journal.sqlite and patches/ together); "
    "`sqlite3 journal.sqlite .recover` may save rows of the damaged one."
)


def create_journal_file(path: Path, values: Mapping[str, str], on_step: StepHook) -> None:
    """Make an empty journal at `path`, wholly or not at all.

    Args:
        path: Where it goes; nothing is there yet.
        values: What its table `store` holds from the start.
        on_step: Told "journal-built", "journal-created".

    Raises:
        StoreError: Where the disk refuses.
    """
    temporary = temporary_path(path)
    try:
        _discard(temporary)
        with translated(path):
            _build(temporary, values)
        on_step("journal-built")
        with disk_refused(path):
            temporary.replace(path)
            fsync_folder(path.parent)
        on_step("journal-created")
    finally:
        # After the rename nothing is left of it: the connection that built it merged its log on closing.
        _discard(temporary)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open an existing journal and check it.

    Args:
        path: The journal.
        read_only: Never write, not even SQLite's own files where the folder cannot be written to.

    Returns:
        A connection in autocommit mode, foreign keys enforced, every commit synced.

    Raises:
        StoreCorrupt: Where it is damaged or no journal of memedit.
        StoreTooNew: Where a newer memedit made it.
        StoreError: Where the system refuses to open it.
    """
    with translated(path):
        connection = _open_read_only(path) if read_only else _open(path, "mode=rw")
    try:
        with translated(path):
            version = _checked_version(connection, path)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            if version < SCHEMA_VERSION:
                stand_in(connection, version) if read_only else migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise SQLite's errors about the journal at `path` as the store's errors.

    Raises:
        StoreCorrupt: For a damaged journal.
        StoreLocked: For one that another program holds.
        StoreError: For one that cannot be opened, read or written.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.OperationalError as error:
        raise _operational(path, str(error)) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # SQLite quotes damaged names in its messages, and Python cannot always decode those.
        raise StoreCorrupt(f"journal {path} is damaged: {error}", remedy=_RESTORE) from error


def _operational(path: Path, message: str) -> StoreError:
    if "locked" in message or "busy" in message:
        return StoreLocked(
            f"journal {path} is held by another program: {message}",
            remedy="Close that program, then try again.",
        )
    if "readonly" in message or "unable to open" in message:
        return StoreError(
            f"journal {path} cannot be opened for writing: {message}",
            remedy="Make the store folder writable, or open the store read-only, as log, show and ask do.",
        )
    if "full" in message or "I/O" in message:
        return StoreError(
            f"journal {path} cannot be written: {message}",
            remedy="Free disk space, then try again; the store is as it was.",
        )
    return StoreCorrupt(f"journal {path} is damaged: {message}", remedy=_RESTORE)


def _open(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)


def _open_read_only(path: Path) -> sqlite3.Connection:
    connection = _open(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if not path.is_file() or (log.exists() and log.stat().st_size > 0):
            raise
        # A WAL journal needs a file for its index beside it, which an unwritable folder cannot take. With no
        # log left to merge the journal itself is everything, and nobody can be writing.
        return _open(path, "immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of a journal that is whole and not too new."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application != APPLICATION_ID:
        raise StoreCorrupt(
            f"{path} is no journal of memedit: application id {application:#x}, expected {APPLICATION_ID:#x}",
            remedy=_RESTORE,
        )
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"journal {path} has schema version {version}, this memedit knows up to {SCHEMA_VERSION}",
            remedy="Update memedit: pip install --upgrade memedit",
        )
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if version < 1 or problems != ["ok"]:
        found = "; ".join(problems).replace("\n", "; ") if version >= 1 else f"schema version {version}"
        raise StoreCorrupt(f"journal {path} is damaged: {found}", remedy=_RESTORE)
    return version


def _build(path: Path, values: Mapping[str, str]) -> None:
    with closing(_open(path, "mode=rwc")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.executemany("INSERT INTO store VALUES (?, ?)", sorted(values.items()))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")


def _discard(temporary: Path) -> None:
    for path in (temporary, *temporary.parent.glob(f"{temporary.name}-*")):
        with suppress(OSError):
            path.unlink(missing_ok=True)

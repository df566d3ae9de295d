"""The file of a SQLite store: made whole or not at all, and repaired after its repository has moved."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from seesay.core.errors import InputError
from seesay.core.files import atomic_path

DATABASE = "mlflow.db"
REMEDY = "move it away; then `seesay sync` makes a new store from the run records in runs/"

_OF_MIGRATIONS = ("alembic_version", "_alembic_tmp_", "sqlite_")
"""What the names of tables begin with that alembic and SQLite make beside MLflow's."""

# Columns that hold absolute artifact paths (MLflow 3.17).
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI, or None for another store or one in memory."""
    path = uri.partition(":///")[2].partition("?")[0] if uri.startswith("sqlite") else ""
    return Path(path).absolute() if path and not path.startswith((":", "file:")) else None


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a database. Raise `InputError`, naming the file and the remedy, if it is none or is damaged."""
    try:
        if database.exists() and not database.is_file():
            raise sqlite3.DatabaseError("it is a directory" if database.is_dir() else "it is not a file")
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            yield connection
    except sqlite3.OperationalError as error:  # locked, no permission, a full disk
        raise InputError(f"{database}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database}: not a usable SQLite database ({error}): {REMEDY}") from None


def require_whole(database: Path) -> None:
    """Make a new SQLite store aside and move it into place, if there is none or if its first making was cut off.

    Only a store without runs, models and tables of others is replaced. Raises `InputError` for a file that is not an
    SQLite database.
    """
    if database.exists() and not _is_half_made(database):
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside_name = rf"\.{re.escape(database.stem)}\.[0-9a-f]{{8}}{re.escape(database.suffix)}(-journal|-wal|-shm)?"
    for path in database.parent.glob(".*"):
        if re.fullmatch(aside_name, path.name):  # of a making that was cut off
            path.unlink()
    with atomic_path(database) as aside:
        made: Any = SqlAlchemyStore(f"sqlite:///{aside}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        made.engine.dispose()
        for suffix in ("-journal", "-wal", "-shm"):  # of the old file: SQLite would apply them to the new one
            database.with_name(database.name + suffix).unlink(missing_ok=True)


def _is_half_made(database: Path) -> bool:
    """Return whether a database has MLflow's tables alone, no runs and models, and no schema of this MLflow."""
    versions = []
    with _open(database) as connection:
        tables = _tables(connection)
        for table in tables & {"runs", "registered_models", "trace_info"}:
            if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                return False
        if "alembic_version" in tables:
            versions = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401  # declares the tables, those of the registry too

    if any(table not in Base.metadata.tables and not table.startswith(_OF_MIGRATIONS) for table in tables):
        return False
    migrations = ScriptDirectory(str(Path(mlflow.__file__).parent / "store/db_migrations"))
    earlier = {script.revision for script in migrations.walk_revisions()} - set(migrations.get_heads())
    return not versions or versions[0] in earlier


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def repair_moved_paths(folder: Path) -> bool:
    """Repair the artifact paths in the store of `mlruns/` after the repository was moved: MLflow's are absolute.

    Returns true if anything was changed.
    """
    if not (folder / DATABASE).is_file():
        return False
    now, tail = str(folder), "/mlruns/artifacts/"
    with _open(folder / DATABASE) as database:
        tables = _tables(database)
        if "experiments" not in tables:
            return False
        locations = [row[0] or "" for row in database.execute("SELECT artifact_location FROM experiments")]
        # Split at the last occurrence, because a folder above the repository may have any name.
        local = [location for location in locations if location.startswith("/") and tail in location]
        roots = {f"{location.rpartition(tail)[0]}/mlruns" for location in local}
        before = database.total_changes
        for old in sorted(roots - {now}):
            for table, column in PATH_COLUMNS:
                if table in tables:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (now, len(old) + 1, len(old) + 1, f"{old}/"),
                    )
        return database.total_changes > before

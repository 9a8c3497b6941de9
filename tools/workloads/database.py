# SPDX-License-Identifier: GPL-2.0-only
"""SQLite with a database that it maps: it grows, is read, loses most rows, and VACUUM truncates it.

    python -m tools.workloads.database FOLDER ROUNDS

Waits for a line on stdin, runs, prints "done", and waits for another line.
"""

import sqlite3
import sys
from pathlib import Path

_ROWS, _ROW_BYTES, _KEPT = 30_000, 3_000, 50
_MAPPED = 1 << 30


def _round(database: sqlite3.Connection) -> None:
    rows = ((bytes(_ROW_BYTES),) for _ in range(_ROWS))
    with database:
        database.executemany("INSERT INTO filled (filler) VALUES (?)", rows)
    database.execute("SELECT sum(length(hex(filler))) FROM filled").fetchone()
    with database:
        database.execute("DELETE FROM filled WHERE id % ?", (_KEPT,))
    database.execute("VACUUM")


def main() -> None:
    """Make the database, wait for a line, run, print "done", and wait."""
    file, rounds = Path(sys.argv[1]) / "filled.db", int(sys.argv[2])
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA mmap_size={_MAPPED}")
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute("CREATE TABLE filled (id INTEGER PRIMARY KEY, filler BLOB)")
    sys.stdin.readline()
    for _ in range(rounds):
        _round(database)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

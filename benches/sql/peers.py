#!/usr/bin/env python3
"""Loads a CSV of encounters into a table of an SQL Server with another client, and prints what it took as JSON.

    peers.py python-tds|freebcp FILE.csv SCHEMA TABLE COLUMNS

COLUMNS are the table's, in the file's order, as name:kind with the kinds text, date, real and int, comma separated. The connection string is read from HDAI_TEST_SQL (user and password only), a
CA file from HDAI_TEST_SQL_CA. `hdai bench sql` runs this. The table must be there and empty.
"""

import csv
import datetime
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

def connection():
    words = {}
    for part in os.environ["HDAI_TEST_SQL"].split(";"):
        name, _, value = part.partition("=")
        if name.strip():
            words[name.strip().lower().replace(" ", "")] = value.strip()
    server = (words.get("server") or words["datasource"]).removeprefix("tcp:")
    host, _, port = server.partition(",")
    user = words.get("userid") or words.get("uid") or words.get("user")
    if not user:
        sys.exit("the connection string names no user and password")
    database = words.get("database") or words.get("initialcatalog")
    return host, int(port or 1433), database, user, words.get("password") or words.get("pwd")


def rows(path, columns):
    """The rows as a driver wants them, read as they are asked for."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            yield [value(kind, cell) for (_, kind), cell in zip(columns, row, strict=True)]


def value(kind, cell):
    if not cell:
        return None
    if kind == "date":
        return day(cell)
    return cell if kind == "text" else float(cell) if kind == "real" else int(cell)


def day(cell):
    month, day, year = map(int, cell.split("/"))
    return datetime.date(year, month, day)


def python_tds(path, schema, table, columns):
    try:
        import pytds
        from pytds import tds_types
        from pytds.tds_base import Column
    except ImportError:
        sys.exit("python-tds is not installed: pip install -r benches/sql/requirements.txt, and name that Python with --python")

    types = {
        "text": tds_types.NVarCharType(size=50),
        "date": tds_types.DateType(),
        "real": tds_types.FloatType(),
        "int": tds_types.IntType(),
    }
    host, port, database, user, password = connection()
    ca = os.environ.get("HDAI_TEST_SQL_CA")
    secured = {"cafile": ca, "validate_host": False} if ca else {}
    with pytds.connect(dsn=host, port=port, database=database, user=user, password=password, timeout=3600, **secured) as link:
        with link.cursor() as cursor:
            described = [Column(name=name, type=types[kind], flags=Column.fNullable) for name, kind in columns]
            begun = time.monotonic()
            cursor.copy_to(data=rows(path, columns), table_or_view=table, schema=schema, columns=described, check_constraints=True)
            link.commit()
            return time.monotonic() - begun


def freebcp(path, schema, table, columns):
    if not shutil.which("freebcp"):
        sys.exit("freebcp (FreeTDS) is not on the PATH")
    host, port, database, user, password = connection()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as file:
        reader = csv.reader(open(path, encoding="utf-8", newline=""))
        next(reader)
        for row in reader:
            cells = (str(day(cell)) if cell and kind == "date" else cell for (_, kind), cell in zip(columns, row, strict=True))
            file.write("\t".join(cells) + "\n")
        file.flush()
        command = ["freebcp", f"{database}.{schema}.{table}", "in", file.name, "-c", "-t", "\t", "-b", "10000"]
        command += ["-H", host, "-p", str(port), "-U", user, "-P", password]
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=3600)
        if done.returncode:
            sys.exit(f"freebcp ended with {done.returncode}")
        return time.monotonic() - begun


def main():
    peer, path, schema, table, columns = sys.argv[1:]
    seconds = {"python-tds": python_tds, "freebcp": freebcp}[peer](
        path, schema, table, [tuple(column.split(":")) for column in columns.split(",")]
    )
    who = resource.RUSAGE_CHILDREN if peer == "freebcp" else resource.RUSAGE_SELF
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(who).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()

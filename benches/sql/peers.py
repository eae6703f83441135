#!/usr/bin/env python3
"""Loads a CSV of encounters into a table of an SQL Server with another client, and prints what it took as JSON.

    peers.py python-tds|freebcp FILE.csv SCHEMA TABLE COLUMNS

COLUMNS are the table's, in the file's order, comma separated. The connection string is read from HDAI_TEST_SQL (user and password only), a
CA file from HDAI_TEST_SQL_CA. `hdai bench sql` runs this. The table must be there and empty.
"""

import csv
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

DATES = ("vdate", "discharged")


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
            yield [value(name, cell) for name, cell in zip(columns, row, strict=True)]


def value(name, cell):
    if not cell:
        return None
    if name in DATES:
        month, day, year = map(int, cell.split("/"))
        return datetime.date(year, month, day)
    if name in TEXTS:
        return cell
    return float(cell) if name in REALS else int(cell)


def kinds(cursor, schema, table):
    """The names of the columns that hold text, and of those that hold real numbers."""
    cursor.execute(
        "SELECT COLUMN_NAME, DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", (schema, table)
    )
    found = cursor.fetchall()
    return {name for name, kind in found if kind.endswith("char")}, {name for name, kind in found if kind == "float"}


TEXTS, REALS = set(), set()


def python_tds(path, schema, table, columns):
    import pytds

    host, port, database, user, password = connection()
    ca = os.environ.get("HDAI_TEST_SQL_CA")
    secured = {"cafile": ca, "validate_host": False} if ca else {}
    with pytds.connect(dsn=host, port=port, database=database, user=user, password=password, timeout=3600, **secured) as link:
        with link.cursor() as cursor:
            texts, reals = kinds(cursor, schema, table)
            TEXTS.update(texts)
            REALS.update(reals)
            begun = time.monotonic()
            cursor.copy_to(data=rows(path, columns), table_or_view=table, schema=schema, columns=columns, check_constraints=True)
            link.commit()
            return time.monotonic() - begun


def freebcp(path, schema, table, columns):
    host, port, database, user, password = connection()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as file:
        for row in csv.reader(open(path, encoding="utf-8", newline="")):
            if row[0] == "First":
                continue
            cells = []
            for name, cell in zip(columns, row, strict=True):
                if cell and name in DATES:
                    month, day, year = map(int, cell.split("/"))
                    cell = f"{year:04}-{month:02}-{day:02}"
                cells.append(cell)
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
    seconds = {"python-tds": python_tds, "freebcp": freebcp}[peer](path, schema, table, columns.split(","))
    who = resource.RUSAGE_CHILDREN if peer == "freebcp" else resource.RUSAGE_SELF
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(who).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The Python side of benches/storage/run: `azure-storage-blob`, `pandas` and `sqlite3` on an account of the storage emulator.

    peers.py upload ACCOUNT_URL CONTAINER BLOB FILE
    peers.py download ACCOUNT_URL CONTAINER BLOB
    peers.py load ACCOUNT_URL CONTAINER BLOB DATABASE COLUMNS.json CHUNK_ROWS     0 chunk rows: the whole file at once

`download` and `load` print a line of JSON: seconds without the start of Python and its imports, and the peak memory of the process.
"""

import hashlib
import io
import json
import resource
import sqlite3
import sys
import time
from pathlib import Path

from azure.storage.blob import BlobServiceClient

# The key that Microsoft publishes for every emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def main():
    what, account, container, blob, *rest = sys.argv[1:]
    container = BlobServiceClient(account, credential=KEY).get_container_client(container)
    client = container.get_blob_client(blob)
    if what == "upload":
        container.create_container()
        with open(rest[0], "rb") as file:
            client.upload_blob(file, max_concurrency=2)
        return
    begun = time.perf_counter()
    if what == "download":
        answer = {"bytes": sum(len(chunk) for chunk in client.download_blob().chunks())}
    else:
        answer = load(client, *rest)
    answer |= {"seconds": time.perf_counter() - begun, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    print(json.dumps(answer))


def load(client, database, columns, chunk_rows):
    """Download, hash, parse, validate, upsert: in one piece, as most scripts do, or in pieces of so many rows."""
    import pandas as pd

    columns = json.loads(Path(columns).read_text())
    content = client.download_blob().readall()
    sha256 = hashlib.sha256(content).hexdigest()
    texts = {column["name"]: str for column in columns if column["kind"] in ("text", "date", "code")}
    read = pd.read_csv(io.BytesIO(content), dtype=texts, chunksize=int(chunk_rows) or None)
    connection = opened(database, columns)
    stored = rejected = 0
    for frame in [read] if chunk_rows == "0" else read:
        good = validated(frame, columns)
        rejected += len(frame) - len(good)
        with connection:
            connection.executemany(upsert(columns), good.itertuples(index=False, name=None))
        stored += len(good)
    connection.close()
    return {"stored": stored, "rejected": rejected, "sha256": sha256}


def validated(frame, columns):
    """The rows that pass the rules which a frame can be asked about as a whole, with dates as ISO text and None for what is missing."""
    import pandas as pd

    ok = pd.Series(True, index=frame.index)
    days = {}
    for column in columns:
        name, kind = column["name"], column["kind"]
        cells = frame[name]
        if kind == "date":
            days[name] = pd.to_datetime(cells, format="%m/%d/%Y", errors="coerce")
            ok &= days[name].notna() | cells.isna()
            frame[name] = days[name].dt.strftime("%Y-%m-%d")
        elif kind == "number":
            numbers = pd.to_numeric(cells, errors="coerce")
            ok &= (numbers.notna() | cells.isna()) & (numbers.between(column["low"], column["high"]) | numbers.isna())
            frame[name] = numbers
        elif kind == "code":
            ok &= cells.isin(column["codes"]) | (cells.isna() & (not column["needed"]))
        elif kind == "text":
            ok &= cells.str.len().le(50) | cells.isna()
        if column["needed"]:
            ok &= frame[name].notna()
    stay = (days["discharged"] - days["vdate"]).dt.days
    ok &= stay.ge(0) | stay.isna()
    good = frame.loc[ok, [column["name"] for column in columns]]
    good = good.astype(object).where(good.notna(), None)
    return good


def opened(database, columns):
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    kinds = {"number": "NUMERIC", "id": "INTEGER PRIMARY KEY"}
    declared = ", ".join(f'"{column["name"]}" {kinds.get(column["kind"], "TEXT")}' for column in columns)
    connection.execute(f"CREATE TABLE PatientData ({declared})")
    return connection


def upsert(columns):
    names = [f'"{column["name"]}"' for column in columns]
    places = ", ".join("?" * len(names))
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name != '"eid"')
    return f"INSERT INTO PatientData ({', '.join(names)}) VALUES ({places}) ON CONFLICT (eid) DO UPDATE SET {sets}"


if __name__ == "__main__":
    main()

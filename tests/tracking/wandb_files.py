"""Reading what W&B wrote offline: its records, in W&B's own messages; and its own uploader, `wandb sync`."""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from wandb_server import Server


def wandb_history(folder: Path, run_id: str, *, newest: bool = True) -> tuple[list[Any], list[dict[str, Any]]]:
    """The run headers and history rows of the newest offline run, or of the oldest."""
    headers, rows = [], []
    choose = max if newest else min
    for record in wandb_records(choose(folder.glob(f"wandb/offline-run-*-{run_id}*/run-{run_id}.wandb"))):
        if record.WhichOneof("record_type") == "run":
            headers.append(record.run)
        if record.WhichOneof("record_type") == "history":
            keys = [item.key or "/".join(item.nested_key) for item in record.history.item]
            rows.append(dict(zip(keys, (json.loads(item.value_json) for item in record.history.item), strict=True)))
    return headers, rows


def wandb_records(path: Path) -> list[Any]:
    """All records of the run, once its last, the exit, is there: W&B's service writes on after `finish` returned."""
    from wandb.proto import wandb_internal_pb2

    deadline = time.monotonic() + 30
    while True:
        records = [wandb_internal_pb2.Record.FromString(data) for data in leveldb_records(path.read_bytes()[7:], 7)]
        if any(record.WhichOneof("record_type") == "exit" for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.1)


def leveldb_records(content: bytes, start: int, block: int = 32768) -> list[bytes]:
    """LevelDB's log format: chunks of crc (4), length (2), kind (1: full, 2 3 4: first middle last), data; no chunk
    crosses a block of 32 KiB."""
    records, parts, at = [], b"", 0
    while at + 7 <= len(content):
        if (left := block - (at + start) % block) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(parts)
            parts = b""
    return records


def upload(server: Server, folder: Path) -> None:
    """`wandb sync` of all folders that lie there, also of those that were synced before."""
    environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40, "WANDB_DIR": str(folder)}
    folders = sorted(map(str, folder.glob("wandb/offline-run-*")))
    words = [sys.executable, "-m", "wandb", "sync", "--include-synced", *folders]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

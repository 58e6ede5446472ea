"""Logs of JSON lines that are only ever appended to, by one process or by several at once.

Each line is one `write` to a file opened with O_APPEND, which a local file system keeps whole and in order. A line that
a kill or a full disk cut short stays: the next one begins below it, and readers pass it over.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.records.store import unwritable


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Append the entry, below what was cut short; UserError where it cannot be written whole."""
    text = json.dumps(entry, ensure_ascii=False) + "\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            whole = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            encoded = (text if whole else f"\n{text}").encode()
            if os.write(descriptor, encoded) < len(encoded):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(path, error) from error


def cut_unfinished_line(path: Path) -> None:
    """Take away what was cut short, if anything was; only where no other process appends."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def lines_of(path: Path) -> Iterator[dict[str, Any] | None]:
    """The entries in order; None for one that was cut short. The last, without its end, is being written or was cut."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for text in file:
            if text.endswith("\n") and text.strip():
                try:
                    entry = json.loads(text)
                except json.JSONDecodeError:
                    entry = None
                yield entry if isinstance(entry, dict) else None


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The entries that were not cut short, in order."""
    return [entry for entry in lines_of(path) if entry is not None]

"""Class names as prompts say them: from the folders' names, or from a names file; no two alike."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.data.listing import prompt_name
from harness.records.errors import UserError
from harness.records.terminal import escaped

UNPRINTABLE = ("Cc", "Cs")  # Unicode categories: control characters, and bytes that are not UTF-8


def class_names(folders: Sequence[str], names_file: Path | None) -> tuple[str, ...]:
    """A name for each class folder: its own with spaces for underscores, or what the names file says."""
    if names_file is None:
        names = tuple(prompt_name(folder) for folder in folders)
    else:
        named = named_folders(names_file, folders)
        for folder in folders:
            if folder not in named:
                line = f"add a line `{escaped(folder)} NAME`"
                raise UserError(f"{names_file} has no name for the class folder '{escaped(folder)}'; {line}")
        names = tuple(named[folder] for folder in folders)
    _check(folders, names)
    return names


def named_folders(names_file: Path, folders: Sequence[str]) -> Mapping[str, str]:
    """Folder -> name, as the lines of the file say.

    A line is a folder's name, a tab or spaces, and the class's name; of synonyms after commas the first counts. A
    folder's name may hold spaces: the longest one that a line begins with is meant. Other lines are for other data.
    """
    by_normal_form = {unicodedata.normalize("NFC", folder): folder for folder in folders}
    names: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(names_file), 1):
        folder, name = _parted(line, by_normal_form)
        if folder is None:
            continue
        if not name:
            raise UserError(
                f"{names_file}, line {number}: '{escaped(folder)}' has no name; write `{escaped(folder)} NAME`"
            )
        if folder in lines:
            raise UserError(
                f"{names_file}, line {number}: '{escaped(folder)}' is named in line {lines[folder]} too; "
                "keep one of them"
            )
        names[folder], lines[folder] = name, number
    return names


def _lines(names_file: Path) -> list[str]:
    try:
        return unicodedata.normalize("NFC", names_file.read_text(encoding="utf-8-sig")).split("\n")
    except OSError as error:
        raise UserError(f"cannot read data.names={names_file}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"data.names must be a text file of lines `FOLDER NAME`, in UTF-8; {names_file}: {error.reason} at byte "
            f"{error.start}"
        ) from error


def _parted(line: str, by_normal_form: Mapping[str, str]) -> tuple[str | None, str]:
    """The folder and the name that a line holds; None where it is of no known folder."""
    line = line.strip()
    ends = [line.index("\t")] if "\t" in line else [i for i, c in enumerate(line) if c.isspace()]
    for end in (len(line), *reversed(ends)):
        if line[:end].strip() in by_normal_form:
            return by_normal_form[line[:end].strip()], " ".join(line[end:].split(",")[0].split())
    return None, ""


def _check(folders: Sequence[str], names: Sequence[str]) -> None:
    folder_of: dict[str, str] = {}
    for folder, name in zip(folders, names, strict=True):
        if not name or any(unicodedata.category(c) in UNPRINTABLE for c in name):
            raise UserError(
                f"the class folder '{escaped(folder)}' gives no name that a prompt can say; rename it, or name it in a "
                "names file, data.names=FILE"
            )
        if name in folder_of:
            raise UserError(
                f"the class folders '{escaped(folder_of[name])}' and '{escaped(folder)}' are both called '{name}', so "
                "that no prompt tells them apart; put them together, or name them differently (data.names=FILE)"
            )
        folder_of[name] = folder

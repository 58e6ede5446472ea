"""Class names as prompts say them: from the folders' names, or from a names file; no two alike."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.data.listing import prompt_name
from harness.records.errors import UserError
from harness.records.terminal import escaped

UNPRINTABLE = ("Cc", "Cs")  # Unicode categories: control characters, and bytes that are not UTF-8

SEPARATORS = (",", ";", ":", "=", "|")  # of other formats


def class_names(folders: Sequence[str], names_file: Path | None) -> tuple[str, ...]:
    """A name for each class folder: its own with spaces for underscores, or what the names file says."""
    if names_file is None:
        names = tuple(prompt_name(folder) for folder in folders)
    else:
        named = named_folders(names_file, folders)
        for folder in folders:
            if folder not in named:
                raise UserError(
                    f"{names_file} has no name for the class folder '{escaped(folder)}'; {_remedy(names_file, folder)}"
                )
        names = tuple(named[folder] for folder in folders)
    _check(folders, names)
    return names


def named_folders(names_file: Path, folders: Sequence[str]) -> Mapping[str, str]:
    """Folder -> name, as the lines of the file say.

    A line is a folder's name, a tab or spaces, and the class's name; of synonyms after commas the first counts. A
    folder's name may hold spaces: the longest one that a line begins with is meant. Other lines are for other data.
    """
    by_normal_form: dict[str, str] = {}
    for folder in folders:
        if (other := by_normal_form.setdefault(_normal_form(folder), folder)) != folder:
            raise UserError(
                f"the class folders {other!a} and {folder!a} differ in how an accent is stored, or in spaces at an "
                f"end, so that no line of {names_file} tells them apart; rename one of them, or put them together"
            )
    names: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(names_file), 1):
        named, name = _parted(line, by_normal_form)
        if named is None:
            continue
        if not name:
            raise UserError(
                f"{names_file}, line {number}: '{escaped(named)}' has no name; write `{escaped(named)} NAME`"
            )
        if named in lines:
            raise UserError(
                f"{names_file}, line {number}: '{escaped(named)}' is named in line {lines[named]} too; keep one of them"
            )
        names[named], lines[named] = name, number
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


def _normal_form(folder: str) -> str:
    """As a line of a names file can say it."""
    return unicodedata.normalize("NFC", folder).strip()


def _remedy(names_file: Path, folder: str) -> str:
    """What to write; where a line parts folder and name otherwise, as a CSV file does, which one."""
    said = _normal_form(folder)
    for number, line in enumerate(_lines(names_file), 1):
        rest = line.strip().removeprefix(said).lstrip()
        if line.strip().startswith(said) and rest.startswith(SEPARATORS):
            return f"line {number} has a '{rest[0]}' after it, where a tab or spaces are to be"
    return f"add a line `{escaped(folder.strip())} NAME`"


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

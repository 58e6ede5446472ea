"""The one reader of text files that users bring line by line: UTF-8, with or without the mark that some editors put
before it. Lines end where an editor ends them; U+2028 and its like are characters of a line."""

from pathlib import Path

from harness.records.errors import UserError


def text_lines(path: Path, what: str = "") -> list[str]:
    """The lines, without their ends; UserError for what cannot be read, or is not UTF-8, with the line.

    `what` is said before the path: "--names ".
    """
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {what}{path}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{what}{path}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error

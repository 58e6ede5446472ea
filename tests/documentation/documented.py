"""The commands in README and docs/: indented lines, and in a sentence `code` of more than two words, that begin with a
program's name; with what a line's comment says."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("harness", "make", "pytest", "python", "pip")
FORMS = ("NAME", "VERB", "GROUP")
NOT_RUN = "not run here: "
"""A command's comment says so, with the reason, where no test runs it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    page: str
    line: int
    text: str  # without its comment
    not_run: str | None  # the reason, where the comment gives one

    @property
    def program(self) -> str:
        return self.text.split()[0]


def commands(page: Path) -> list[Command]:
    """Of one page, in its order."""
    name = page.relative_to(ROOT).as_posix()
    listed = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        code, _, comment = line.partition("  #")
        indented = line.startswith("    ")
        shown = [code.strip()] if indented else [each for each in re.findall(r"`([^`]+)`", line) if each.count(" ") > 1]
        reason = comment.partition(NOT_RUN)[2].strip() or None
        listed += [Command(page=name, line=number, text=text, not_run=reason) for text in shown if is_command(text)]
    return listed


def is_command(text: str) -> bool:
    """False for a form such as `harness VERB` or `harness report chains/NAME`, where capitals stand for other words."""
    words = text.split()
    return len(words) > 1 and words[0] in PROGRAMS and not any(part in FORMS for part in re.split(r"[\s/=]", text))


def links(page: Path) -> list[str]:
    """Relative links and pictures of a page, as paths from the root."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [str((page.parent / target).resolve()) for target in targets if "://" not in target]


def files(page: Path) -> dict[str, str]:
    """Path -> content of the YAML files that a page shows: indented blocks whose first line is `# PATH.yaml`."""
    shown: dict[str, list[str]] = {}
    lines: list[str] = []  # of the file that is being read
    for line in page.read_text().splitlines():
        if begins := re.fullmatch(r"    # ([\w/]+\.yaml)", line):
            lines = shown.setdefault(begins[1], [])
        elif line.startswith("    "):
            lines.append(line.removeprefix("    "))
        else:
            lines = []
    return {path: "\n".join(of_file) + "\n" for path, of_file in shown.items()}

"""The one reader of YAML files: 1e-4 is a number, and a key stands once.

PyYAML reads by YAML 1.1, where a float has a dot and its exponent a sign, so that 1e-4 is a text there; YAML 1.2
(section 10.3.2) reads a number, and so does Hydra, which reads the settings. Of a repeated key PyYAML keeps the last
and says nothing; YAML 1.2 (section 3.2.1.1) forbids it.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from harness.records.errors import UserError

EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")
MERGE = "tag:yaml.org,2002:merge"


class _RepeatedKeyError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before `<<` fills it up: what it overrides of another mapping is no repetition.

        Keys are compared as texts, for so the readers take them: 1 and "1" are one key.
        """
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue
            key, line = str(self.construct_object(key_node)), key_node.start_mark.line + 1
            if key in lines:
                raise _RepeatedKeyError(
                    f"line {line}: the key '{key}' stands in line {lines[key]} too; keep one of them"
                )
            lines[key] = line
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{EXPONENT.pattern})$"), list("-+.0123456789"))


def read_yaml(path: Path, what: str = "") -> Any:
    """The content of a file that a user may have written; UserError says what is wrong with it, and in which line.

    `what` is said before the path where it cannot be read: "the architecture ".
    """
    return parse_yaml(_text(path, what), path)


def leading_comment(path: Path) -> str:
    """The lines of comment that a YAML file begins with, as one text."""
    lines = _text(path).splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count])


def _text(path: Path, what: str = "") -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {what}{path}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not YAML, which is UTF-8 text: {error.reason} at byte {error.start}") from error


def parse_yaml(text: str, source: Path | str) -> Any:
    """The content of a text; `source` is what a UserError calls it."""
    try:
        return yaml.load(text, Loader=_Loader)
    except _RepeatedKeyError as error:
        raise UserError(f"{source}, {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{source} is not YAML{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a 13th month; a thousand brackets
        raise UserError(f"{source} is not YAML: {' '.join(str(error).split())}") from error

"""The one reader of YAML files: 1e-4 is a number, `no` a text, and a key stands once.

PyYAML reads by YAML 1.1: 1e-4 is a text there, `on`, `yes` and `no` are booleans, 010 is 8, 1:30 is 90 and 2026-01-02 a
date. YAML 1.2 (section 10.3.2) reads what a reader expects, and so does Hydra, which reads the command line. Of a
repeated key PyYAML keeps the last and says nothing; YAML 1.2 (section 3.2.1.1) forbids it.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from harness.records.errors import UserError

TAG = "tag:yaml.org,2002:"
EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")
FLOAT = re.compile(rf"^(?:{EXPONENT.pattern}|[-+]?(?:[0-9][0-9_]*)?\.[0-9][0-9_]*|[-+]?[0-9][0-9_]*\."
                   r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")  # fmt: skip
INT = re.compile(r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$")  # 010 is none: eight to some, ten to others
BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
OF_YAML_1_1 = tuple(f"{TAG}{name}" for name in ("bool", "int", "float", "timestamp", "value"))


class _MistakeError(Exception):
    """What PyYAML lets pass; begins with the line."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before `<<` fills it up: what it overrides of another mapping is no repetition.

        Keys are compared as texts, for so the readers take them: 1 and "1" are one key; and as values, of which Python
        keeps one: 1 and 1.0 are one, too.
        """
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = self._key(key_node, line)
            for same in dict.fromkeys((str(key), key)):
                if same in lines:
                    raise _MistakeError(
                        f"line {line}: the key '{key}' stands in line {lines[same]} too; keep one of them"
                    )
            lines |= {str(key): line, key: line}
        return node

    def _key(self, node: yaml.Node, line: int) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise _MistakeError(f"line {line}: a key is a word or a number, not a list or a mapping; name one")
        key = node.value if node.tag == f"{TAG}merge" else self.construct_object(node)
        if key is None or key == "":
            raise _MistakeError(f"line {line}: a key is a word or a number, not empty or null; name one, or quote it")
        return key


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in several if tag not in OF_YAML_1_1]
    for first, several in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", BOOL, "tTfF"),
    ("int", INT, "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"{TAG}{_tag}", _pattern, list(_first))


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML reads as another thing than a text, and what this reader does: '1e-3'."""


_Dumper.add_implicit_resolver(f"{TAG}float", FLOAT, list("-+.0123456789"))


def write_yaml(content: Any, *, flow: bool | None = False, width: int = 120) -> str:
    """The text of a YAML file that `read_yaml` reads back, and that any other reader takes for the same."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width, allow_unicode=True)


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
        content = yaml.load(text, Loader=_Loader)
    except _MistakeError as error:
        raise UserError(f"{source}, {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{source} is not YAML{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:  # `!!int ""`; a thousand brackets
        raise UserError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if _holds_itself(content, (), set()):
        raise UserError(f"{source}: an alias (*NAME) stands inside what its anchor (&NAME) marks; write it out")
    return content


def _holds_itself(content: Any, above: tuple[int, ...], whole: set[int]) -> bool:
    """`whole` are the mappings and lists that are known not to."""
    if not isinstance(content, dict | list) or id(content) in whole:
        return False
    inside: Iterable[Any] = content.values() if isinstance(content, dict) else content
    if id(content) in above or any(_holds_itself(each, (*above, id(content)), whole) for each in inside):
        return True
    whole.add(id(content))
    return False

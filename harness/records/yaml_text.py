"""YAML in which 1e-4 is a number.

PyYAML reads by YAML 1.1, where a float has a dot and its exponent a sign, so that 1e-4 is a text there; YAML 1.2
(section 10.3.2) reads a number, and so does Hydra, which reads the settings.
"""

import re
from typing import Any

import yaml

EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{EXPONENT.pattern})$"), list("-+.0123456789"))


def read_yaml(text: str) -> Any:
    """The content; yaml.YAMLError where the text is no YAML."""
    return yaml.load(text, Loader=_Loader)

"""The YAML groups say exactly what their dataclasses hold."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml

import harness
from harness.data.config import DataConfig, TextConfig
from harness.measure.quality_config import QualityConfig
from harness.records.plain import from_plain, to_plain

CONF = Path(harness.__file__).parent / "conf"
FILES = [path for group in ("data", "text", "quality") for path in sorted((CONF / group).glob("*.yaml"))]


@dataclass(frozen=True, kw_only=True)
class Groups:
    data: DataConfig | None = None
    text: TextConfig | None = None
    quality: QualityConfig | None = None


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_group_builds_and_names_every_setting(path):
    plain = yaml.safe_load(path.read_text())
    config = getattr(from_plain(Groups, {path.parent.name: plain}), path.parent.name)
    assert to_plain(config) == plain
    assert {field.name for field in fields(config)} == set(plain)
    if "kind" in plain:
        assert plain["kind"] == path.stem


def test_the_laptop_group_is_the_default():
    assert from_plain(QualityConfig, yaml.safe_load((CONF / "quality/laptop.yaml").read_text())) == QualityConfig()

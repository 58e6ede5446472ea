"""The one reader of YAML files: numbers as the field writes them, keys once, mistakes with their line."""

import ast
from pathlib import Path

import pytest
import yaml

import harness
from harness.architecture.catalogue import architecture
from harness.predictor import calibration
from harness.records.errors import UserError
from harness.records.yaml_text import parse_yaml, read_yaml, write_yaml
from harness.trials.studies import read_study


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", ".1e-2", "+0.001", "10e-4"])
def test_a_number_with_an_exponent_is_a_number(text):
    assert parse_yaml(f"rate: {text}", "x") == {"rate": pytest.approx(1e-3)}
    assert parse_yaml(f"rate: '{text}'", "x") == {"rate": text}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3: the key 'a' stands in line 1 too; keep one of them"),
        ("a:\n  b: {c: 1, d: 2, c: 1}\n", "x.yaml, line 2: the key 'c' stands in line 2 too"),
        ("- a: 1\n- b: 1\n  'b': 2\n", "x.yaml, line 3: the key 'b' stands in line 2 too"),
        ("1: x\n'1': y\n", "x.yaml, line 2: the key '1' stands in line 1 too"),  # readers take keys as texts
        ("a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n  x: 3\n", "x.yaml, line 5: the key 'x' stands in line 4 too"),
        ("a: 1\n? [a]\n: 1\n", "x.yaml, line 2: a key is a word or a number, not a list or a mapping"),
        ("a: 1\nnull: 1\n", "x.yaml, line 2: a key is a word or a number, not empty or null"),
        ("a: 1\n? \n: 1\n", "x.yaml, line 2: a key is a word or a number, not empty or null"),
        ("1: x\n1.0: y\n", "x.yaml, line 2: the key '1.0' stands in line 1 too"),  # equal in Python: one would be lost
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: {y: 1}\n", "x.yaml, line 4: the key '<<' stands in line 3 too"),
        ("a: &a [1, *a]\n", "x.yaml: an alias (*NAME) stands inside what its anchor (&NAME) marks"),
        ("a: &a {b: [{c: *a}]}\n", "x.yaml: an alias (*NAME) stands inside what its anchor (&NAME) marks"),
        ("a: !!bool x\n", "x.yaml is not YAML: 'x'"),
        ('a: !!int ""\n', "x.yaml is not YAML: "),
        ('a: !!float ""\n', "x.yaml is not YAML: "),
        ("a: [1, 2\nb: 3\n", "x.yaml is not YAML, line 2: "),
        ("a: 1\n\tb: 2\n", "x.yaml is not YAML, line 2: "),
        ("a: !!python/object:os.system {}\n", "x.yaml is not YAML, line 1: could not determine a constructor"),
        ("a: 1\n---\na: 2\n", "x.yaml is not YAML, line 2: but found another document"),
        ("a: \x00\n", "x.yaml is not YAML: "),
        ("[" * 5000, "x.yaml is not YAML: maximum recursion depth"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(text, sentence):
    with pytest.raises(UserError) as refused:
        parse_yaml(text, "x.yaml")
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["yes", "no", "On", "off", "010", "-007", "1:30", "0b11", "2026-01-02", "2026-13-45", "="]
)
def test_what_yaml_1_1_alone_takes_for_another_thing_is_a_text(text):
    """So that a setting which is no text refuses it, as it does on the command line."""
    assert parse_yaml(f"a: {text}\n{text}: 1\n", "x") == {"a": text, text: 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("~", None), ("0", 0), ("-3", -3), ("1_000", 1000), ("0x10", 16), ("1.", 1.0),
     (".5", 0.5), ("-1_0.5", -10.5), ("1e3", 1000.0), ("-.inf", -float("inf"))],
)  # fmt: skip
def test_booleans_and_numbers(text, value):
    parsed = parse_yaml(f"a: {text}", "x")["a"]
    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize("text", ["1e-3", "no", "010", "true", "1", "null", "~", "2026-01-02", "a: b", "é\n", ""])
def test_a_text_written_is_the_text_read(text):
    content = {"a": [text, {text or "b": text}]}
    assert parse_yaml(write_yaml(content), "x") == content
    assert parse_yaml(write_yaml(content, flow=True), "x") == content
    assert yaml.safe_load(write_yaml(content)) == content


def test_an_alias_outside_its_anchor_is_followed():
    assert parse_yaml("a: &a [1]\nb: [*a, *a]\n", "x") == {"a": [1], "b": [[1], [1]]}


def test_what_a_merge_fills_up_may_be_overridden():
    text = "deep: {one: &one {<<: {x: 0}, x: 1}}\nlist: [*one]\ntwo: {<<: *one, x: 2}\n"
    assert parse_yaml(text, "x") == {"deep": {"one": {"x": 1}}, "list": [{"x": 1}], "two": {"x": 2}}


def test_a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: caf\xc3\xa9\r\n")
    assert read_yaml(path) == {"a": 1, "b": "café"}
    path.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(UserError, match=r"x\.yaml is not YAML, which is UTF-8 text"):
        read_yaml(path)


@pytest.mark.parametrize(
    "reader",
    [
        lambda path: architecture(str(path)),
        lambda path: read_study("sweeps", str(path)),
        lambda path: read_study("search_spaces", str(path)),
        lambda path: read_study("reports", str(path)),
        lambda path: calibration.read(path),
    ],
    ids=["architecture", "sweep", "space", "report", "calibration"],
)
def test_every_kind_of_file_refuses_a_key_that_stands_twice(reader, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: laptop/thin_sdxl\nedits: {}\nedits: {stages.0.channels: 64}\n")
    with pytest.raises(UserError, match="line 3: the key 'edits' stands in line 2 too"):
        reader(path)


def test_nothing_else_reads_yaml():
    """A second reader would have rules of its own."""
    loads = {"load", "safe_load", "load_all", "safe_load_all", "full_load"}
    for path in sorted(Path(harness.__file__).parent.rglob("*.py")):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and node.attr in loads
            and ast.unparse(node.value) in ("yaml", "OmegaConf")
        ]
        assert not calls or path.name == "yaml_text.py", path

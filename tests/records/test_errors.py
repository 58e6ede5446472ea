"""Sentences made of other libraries' errors."""

import pytest

from harness.records.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("  one\ntwo"), "one"),
        (IndexError(), "IndexError"),
        (KeyError("\n"), "'\\n'"),
        (OSError(" "), "OSError"),
    ],
)
def test_an_error_that_says_nothing_is_named_by_its_class(error, line):
    assert first_line(error) == line

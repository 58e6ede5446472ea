"""Text files that users bring are read alike, whatever editor wrote them."""

from pathlib import Path

import pytest

from harness.records.errors import UserError
from harness.records.text import text_lines


def test_a_mark_the_ends_of_lines_and_odd_separators(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "hot dog\r\ncrane\u2028bird\x0b\nlast".encode())
    assert text_lines(path) == ["hot dog", "crane\u2028bird\x0b", "last"]


def test_what_is_no_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("one\ntwo\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"^--names .*names.txt, line 3: not UTF-8 \(.*\); save the file as UTF-8$"):
        text_lines(path, "--names ")
    with pytest.raises(UserError, match=r"^cannot read --names .*: Is a directory; check the path$"):
        text_lines(tmp_path, "--names ")

"""A request to stop: who asks, who hears, and what is no request."""

import pytest

from harness.launch.stopping import ask_to_stop, hear, heard, is_requested
from harness.records.errors import UserError


def test_a_request_is_heard_once(tmp_path):
    assert hear(tmp_path) is None
    ask_to_stop(tmp_path, "cancel")
    assert is_requested(tmp_path)
    assert hear(tmp_path).mode == "cancel"
    assert not is_requested(tmp_path)
    assert hear(tmp_path) is None
    assert heard(tmp_path).mode == "cancel"


def test_an_empty_file_asks_to_finish(tmp_path):
    (tmp_path / "stop").touch()
    assert hear(tmp_path).mode == "finish"


@pytest.mark.parametrize("text", ["please", "[1]", '"finish"', '{"mood": "cancel"}'])
def test_what_is_no_request_is_one_sentence(tmp_path, text):
    (tmp_path / "stop").write_text(text)
    with pytest.raises(UserError, match="no request to stop; leave that to `harness stop`"):
        hear(tmp_path)

"""A request to stop: who asks, who hears, and what is no request."""

import pytest

from harness.launch.stopping import accept_stop_request, accepted_stop_request, is_stop_requested, request_stop
from harness.records.errors import UserError


def test_a_request_is_heard_once(tmp_path):
    assert accept_stop_request(tmp_path) is None
    request_stop(tmp_path, "cancel")
    assert is_stop_requested(tmp_path)
    assert accept_stop_request(tmp_path).mode == "cancel"
    assert not is_stop_requested(tmp_path)
    assert accept_stop_request(tmp_path) is None
    assert accepted_stop_request(tmp_path).mode == "cancel"


def test_an_empty_file_asks_to_finish(tmp_path):
    (tmp_path / "stop").touch()
    assert accept_stop_request(tmp_path).mode == "finish"


@pytest.mark.parametrize("text", ["please", "[1]", '"finish"', '{"mood": "cancel"}'])
def test_what_is_no_request_is_one_sentence(tmp_path, text):
    (tmp_path / "stop").write_text(text)
    with pytest.raises(UserError, match="no request to stop; leave that to `harness stop`"):
        accept_stop_request(tmp_path)

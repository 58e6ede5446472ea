"""Files of weights say what they are of: whatever else would be taken for them is refused in a sentence."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.models.build import build, example_inputs
from harness.models.convert import converted
from harness.models.parameters import filled_copy
from harness.models.weights import FORMAT, Training, read_identity, read_weights, write_weights
from harness.records.errors import UserError
from harness.records.plain import to_plain

LAPTOP = architecture("laptop/thin_sdxl")
ROPE = with_edits(LAPTOP, {"position": "rope_2d"})
TRAINING = Training(trial="0123456789abcdef", latent=8, text={"prompts": ["a 3"], "length": None})
EQUAL_SHAPES = {
    "head_dim": 8,
    "norm.groups": 4,
    "position": "rope_2d",
    "context_length": 9,
    "feed_forward": {"kind": "swiglu", "ratio": 4},
}


@pytest.fixture(scope="module")
def network():
    return filled_copy(build(LAPTOP))


@pytest.fixture
def file(tmp_path, network):
    write_weights(tmp_path / "ema.safetensors", network.state_dict(), LAPTOP, TRAINING)
    return tmp_path / "ema.safetensors"


def rewritten(file, tensors=None, **metadata):
    """The same file with some of what it says of itself, or its tensors, exchanged."""
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    identity = json.loads(header["__metadata__"][FORMAT]) | metadata
    save_file(tensors or load_file(file), file, {FORMAT: json.dumps(identity)})
    return file


def test_what_was_written_is_read_and_computes_the_same(file, network):
    weights = read_weights(file, LAPTOP)
    assert (weights.architecture, weights.training) == (LAPTOP, TRAINING) == read_identity(file)
    with torch.no_grad():
        inputs = example_inputs(LAPTOP, latent=8)
        assert torch.equal(weights.network()(*inputs), network.eval()(*inputs))


@pytest.mark.parametrize("path", EQUAL_SHAPES)
def test_equal_shapes_are_not_the_same_architecture(file, path):
    other = with_edits(LAPTOP, {path: EQUAL_SHAPES[path]})
    shapes = [tensor.shape for tensor in build(other).state_dict().values()]
    assert shapes == [tensor.shape for tensor in build(LAPTOP).state_dict().values()], "or the test is none"
    with pytest.raises(UserError, match=rf"of another architecture: {path.split('.')[0]}.* in the file, .* named"):
        read_weights(file, other)


@pytest.mark.parametrize("setting", ["head_dim=8", "norm.groups=4", "position=rope_2d"])
def test_export_refuses_weights_of_another_architecture_before_it_converts(file, setting, tmp_path, capsys):
    command = ["export", "laptop/thin_sdxl", setting, "--latent", "8", "--parity", "--to", f"{tmp_path}/a.mlpackage"]
    assert main([*command, "--weights", str(file)]) == 2
    assert "holds weights of another architecture" in capsys.readouterr().err
    assert not (tmp_path / "a.mlpackage").exists()


def test_the_architecture_is_fingerprinted_anew(file):
    with pytest.raises(UserError, match=r"its architecture has the fingerprint \w{16}, and was written as"):
        read_weights(rewritten(file, architecture=to_plain(LAPTOP) | {"head_dim": 8}))
    with pytest.raises(UserError, match="does not say rightly what its weights are of"):
        read_weights(rewritten(file, architecture={"kind": "nothing"}))


def test_equal_weights_are_equal_files(file, tmp_path, network):
    """A merge of stores tells equal artifacts by their bytes."""
    for number in range(5):
        write_weights(tmp_path / f"{number}.safetensors", network.state_dict(), LAPTOP, TRAINING)
        assert (tmp_path / f"{number}.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("change", [{"latent": 16}, {"trial": "f" * 16}, {"text": {}}])
def test_what_a_file_says_of_its_training_is_what_was_written(file, change):
    plain = to_plain(TRAINING) | change
    with pytest.raises(UserError, match="was altered: its training is not the one that was written"):
        read_identity(rewritten(file, training=plain))


def test_the_file_of_another_trial_is_refused_in_a_trials_folder(file, tmp_path, network):
    other, own = tmp_path / "artifacts" / ("f" * 16), tmp_path / "artifacts" / TRAINING.trial
    for folder in (other, own):
        folder.mkdir(parents=True)
        shutil.copy(file, folder)
    assert read_weights(own / file.name).training == TRAINING
    for read in (read_weights, read_identity):
        with pytest.raises(UserError, match=f"lies in the folder of trial {'f' * 16} and is of trial {TRAINING.trial}"):
            read(other / file.name)
    write_weights(other / file.name, network.state_dict(), LAPTOP)  # as a converter does
    with pytest.raises(UserError, match="and is of no trial of this harness"):
        read_weights(other / file.name)


def test_other_tensors_under_the_same_head_are_refused(file):
    tensors = load_file(file)
    tensors["conv_in.weight"][0] += 1
    with pytest.raises(UserError, match="its tensors are not those that were written"):
        read_weights(rewritten(file, tensors))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, network, value, monkeypatch):
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors["conv_in.bias"][3] = value
    with pytest.raises(UserError, match=r"are not finite: 'conv_in\.bias'"):
        write_weights(tmp_path / "a.safetensors", tensors, LAPTOP)
    with monkeypatch.context() as patch:
        patch.setattr("harness.models.weights._check_tensors", lambda *_: None)
        write_weights(tmp_path / "a.safetensors", tensors, LAPTOP)
    with pytest.raises(UserError, match=r"are not finite: 'conv_in\.bias'"):
        read_weights(tmp_path / "a.safetensors")


def test_missing_names_and_other_shapes_are_refused(tmp_path, network):
    tensors = dict(network.state_dict())
    with pytest.raises(UserError, match=r"'conv_in\.bias' is missing"):
        write_weights(tmp_path / "a", {name: x for name, x in tensors.items() if name != "conv_in.bias"}, LAPTOP)
    with pytest.raises(UserError, match="'extra' is none of its parameters"):
        write_weights(tmp_path / "a", tensors | {"extra": torch.zeros(1)}, LAPTOP)
    with pytest.raises(UserError, match=r"'conv_in\.bias' is \(2,\), and \(32,\) is right"):
        write_weights(tmp_path / "a", tensors | {"conv_in.bias": torch.zeros(2)}, LAPTOP)


def test_a_file_that_is_no_such_file_says_what_it_is(file, tmp_path, network):
    whole = file.read_bytes()
    cases = {
        "cut.safetensors": (whole[:-1000], rf"cut off: {len(whole) - 1000:,} of {len(whole):,} bytes are there"),
        "head.safetensors": (whole[:400], "cut off: 400 bytes hold less than its header"),
        "empty.safetensors": (b"", "cut off: 0 bytes"),
        "text.safetensors": (b"hello, these are no weights", "no safetensors file"),
    }
    for name, (content, sentence) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            read_weights(tmp_path / name)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("a.pt", "old.pt"):
        with pytest.raises(UserError, match=r"is a file of torch\.save, a pickle"):
            read_weights(tmp_path / name)
    save_file(load_file(file), tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="does not say of which architecture its weights are"):
        read_weights(tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="is a folder"):
        read_weights(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_weights(tmp_path / "none.safetensors")


def test_other_files_enter_through_a_converter_that_names_their_architecture(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    converted(tmp_path / "theirs.pt", ROPE, tmp_path / "ours.safetensors", of="state_dict")
    weights = read_weights(tmp_path / "ours.safetensors")
    assert (weights.architecture, weights.training) == (ROPE, None)
    with pytest.raises(UserError, match=r"choose one of: .*diffusers, .*state_dict"):
        converted(tmp_path / "theirs.pt", ROPE, tmp_path / "b.safetensors", of="keras")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "theirs.pt").read_bytes()[:500])
    with pytest.raises(UserError, match="cannot read the weights"):
        converted(tmp_path / "cut.pt", ROPE, tmp_path / "b.safetensors", of="state_dict")


def test_costs_of_trained_weights_are_for_the_latent_they_were_trained_on(file, tmp_path, capsys):
    chip = ["--chip", "A18 Pro", "--json"]
    assert main(["measure", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latent"] == 8
    assert main(["latency", "predict", str(file), *chip]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0] == [1, 1, 8, 8]
    assert main(["latency", "predict", str(file), "--latent", "16", *chip]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0] == [1, 1, 16, 16]
    assert main(["export", str(file), "--preflight", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latent"] == 8

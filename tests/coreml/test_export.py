"""Packages read back from disk: what they contain, and what happens where a module does not convert."""

import errno
import re
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.cli import main
from harness.coreml import export as coreml
from harness.coreml.config import CoremlConfig, Mlprogram, NoCoreml
from harness.coreml.export import CoremlExportError, export_package, read_package
from harness.coreml.mil_program import WEIGHTS, read_program
from harness.models.embeddings import TimeEmbedding
from harness.records.errors import UserError
from harness.records.plain import canonical_json, from_plain, identity


class Net(nn.Module):
    """A convolution, attention to a context and a nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = (
            nn.Conv2d(4, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.Conv2d(8, 4, 3, padding=1),
        )
        self.q, self.kv, self.dropout = nn.Linear(8, 8), nn.Linear(5, 16), nn.Dropout(0.5)

    def forward(self, x, time, context, mask=None):
        h = F.silu(self.norm(self.conv(x))) * time[:, None, None, None]
        q = self.q(h.flatten(2).transpose(1, 2)).unflatten(-1, (2, 4)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, 2, 4)).transpose(1, 3).unbind(2)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        h = h + seen.transpose(1, 2).unflatten(-1, x.shape[2:])
        return self.out(F.interpolate(self.dropout(h), scale_factor=2.0))


def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 3, 5)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("coreml") / "net.mlpackage"
    net = Net().train()
    return net, export_package(net, inputs(), path)


def test_the_package_says_what_goes_in_and_out(package):
    _, summary = package
    assert summary.inputs == {"x": (1, 4, 8, 8), "time": (1,), "context": (1, 3, 5)}
    assert list(summary.outputs.values()) == [(1, 4, 16, 16)]


def test_the_histogram_counts_the_modules_own_operators(package):
    _, summary = package
    assert summary.operators["conv"] == 2
    assert summary.operators["upsample_nearest_neighbor"] == 1
    assert "const" not in summary.operators
    assert list(summary.operators.values()) == sorted(summary.operators.values(), reverse=True)


def test_bytes_are_the_packages_and_about_two_a_parameter(package):
    net, summary = package
    files = [file for file in summary.path.rglob("*") if file.is_file()]
    weights = next(file for file in files if file.name == "weight.bin")
    params = sum(parameter.numel() for parameter in net.parameters())
    assert summary.bytes == sum(file.stat().st_size for file in files)
    assert 1.5 * params < weights.stat().st_size < 3 * params + 4096
    assert summary.quantity.value == summary.bytes
    assert summary.quantity.conditions["target"] == "iOS17"
    assert summary.quantity.conditions["precision"] == "fp16"
    assert summary.quantity.conditions["layout"] == "ane"
    assert summary.quantity.conditions["bits"] == 16


def test_the_module_is_left_as_it_was(package):
    net, _ = package
    assert all(part.training for part in net.modules())


def test_the_package_can_be_read_again(package):
    _, summary = package
    assert [x.name for x in read_package(summary.path).description.input] == list(summary.inputs)


def test_a_second_export_replaces_the_first_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "net.mlpackage"
    first = export_package(nn.Linear(3, 4), (torch.randn(1, 3),), path)
    second = export_package(nn.Linear(3, 5), (torch.randn(1, 3),), path, Mlprogram(target="iOS18", precision="fp32"))
    assert [tuple(shapes.values()) for shapes in (first.outputs, second.outputs)] == [((1, 4),), ((1, 5),)]
    assert (second.target, second.precision) == ("iOS18", "fp32")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("target", "version"), [("iOS16", 7), ("iOS17", 8), ("iOS18", 9)])
def test_the_deployment_target_reaches_the_package(target, version, tmp_path):
    """Core ML's specification versions (coremltools' `_SPECIFICATION_VERSION_IOS_17` and its like)."""
    summary = export_package(nn.ReLU(), (torch.randn(1, 3),), tmp_path / "net.mlpackage", Mlprogram(target=target))
    assert read_package(summary.path).specificationVersion == version


def test_a_last_input_of_none_is_left_out(tmp_path):
    class Masked(nn.Linear):
        def forward(self, x, mask=None):
            return super().forward(x) if mask is None else mask

    summary = export_package(Masked(3, 4), (torch.randn(1, 3), None), tmp_path / "net.mlpackage")
    assert list(summary.inputs) == ["x"]


class Unconvertible(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1]


class Undecided(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("module", [Unconvertible(), Undecided()])
def test_what_does_not_convert_says_so_in_one_line_and_leaves_nothing(module, tmp_path):
    with pytest.raises(CoremlExportError) as caught:
        export_package(module, (torch.randn(4, 4),), tmp_path / "net.mlpackage")
    assert re.match(r"\w+: .+", str(caught.value))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_during_the_conversion_is_no_result(tmp_path, monkeypatch):
    """CoremlExportError would be kept in the store as the network's own failure."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(coreml, "_mlmodel", full)
    with pytest.raises(UserError, match=r"could not finish here .*No space left.*; free disk space") as error:
        export_package(Net(), inputs(), tmp_path / "net.mlpackage")
    assert not isinstance(error.value, CoremlExportError)


def test_an_unwritable_place_is_a_sentence_before_the_conversion(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(coreml, "_mlmodel", None)
    with pytest.raises(UserError, match="cannot write"):
        export_package(nn.Linear(3, 4), (torch.randn(1, 3),), tmp_path / "file" / "net.mlpackage")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.mlpackage, not 'net\.onnx'"):
        export_package(nn.Linear(3, 4), (torch.randn(1, 3),), tmp_path / "net.onnx")


def test_export_is_silent(tmp_path, capfd, recwarn):
    export_package(nn.Linear(3, 4), (torch.randn(1, 3),), tmp_path / "net.mlpackage")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("option", "config"),
    [
        ("none", NoCoreml()),
        ("ios16", Mlprogram(target="iOS16")),
        ("ios17", Mlprogram()),
        ("ios18", Mlprogram(target="iOS18")),
    ],
)
def test_the_yaml_options_build(option, config):
    from harness.trials.compose import compose_plain

    assert from_plain(type(config), compose_plain([f"coreml={option}"])["coreml"]) == config
    assert isinstance(config, CoremlConfig)


def test_a_wrong_target_lists_the_right_ones():
    with pytest.raises(UserError, match=r"unknown value for .*target.*: .iOS12.; choose one of: iOS18, iOS17, iOS16"):
        from_plain(Mlprogram, {"target": "iOS12"})


def test_layout_and_bits_are_part_of_an_exports_identity():
    settings = (Mlprogram(), Mlprogram(layout="plain"), Mlprogram(bits=8), Mlprogram(bits=4))
    assert len({canonical_json(identity(config)) for config in settings}) == 4


def test_a_wrong_number_of_bits_lists_the_right_ones():
    with pytest.raises(UserError, match=r"unknown value for .*bits.*: .5.; choose one of: 16, 4, 6, 8"):
        from_plain(Mlprogram, {"bits": 5})


@pytest.mark.parametrize("flag", ["--target=iOS12", "--bits=5", "--layout=channels_last"])
def test_a_wrong_flag_is_a_sentence(flag, capsys):
    assert main(["export", "laptop/thin_sdxl", flag]) == 2
    answer = capsys.readouterr().err
    assert re.match(r"harness: argument --\w+: invalid choice: .* \(choose from .*\); `harness export --help`", answer)
    assert len(answer.splitlines()) == 1


def test_a_place_for_a_package_that_preflight_does_not_write_is_refused(capsys):
    assert main(["export", "laptop/thin_sdxl", "--preflight", "--to", "net.mlpackage"]) == 2
    assert "--preflight writes no package" in capsys.readouterr().err


def test_angles_of_the_time_embedding_are_exact_and_all_else_is_fp16(tmp_path):
    """In fp16 the angle of a time near 1 is off by a quarter: its cosine would be noise."""
    time = torch.tensor([0.8613])
    rough = (1000 * time.half()).float() - 1000 * time
    assert rough.abs() > 0.1
    summary = export_package(TimeEmbedding(8, 16), (time,), tmp_path / "time.mlpackage")
    operations = read_program(summary.path).operations
    formats = {output.dtype for op in operations if op.operator in ("cos", "sin", "mul") for output in op.outputs[:1]}
    assert formats == {"FLOAT32"}
    assert {op.outputs[0].dtype for op in operations if op.operator in ("conv", "silu")} == {"FLOAT16"}


MODEL = WEIGHTS.parent / "model.mlmodel"
DAMAGES = {
    "nothing in it": lambda path: (shutil.rmtree(path), path.mkdir()),
    "no manifest": lambda path: (path / "Manifest.json").unlink(),
    "no program": lambda path: (path / MODEL).unlink(),
    "a torn program": lambda path: torn(path / MODEL),
    "no weights": lambda path: shutil.rmtree(path / WEIGHTS),
    "torn weights": lambda path: torn(path / WEIGHTS / "weight.bin"),
}


def torn(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_is_a_sentence(damage, last_rung, tmp_path):
    path = shutil.copytree(last_rung[2].path, tmp_path / "damaged.mlpackage")
    DAMAGES[damage](path)
    with pytest.raises(UserError, match=r"damaged\.mlpackage cannot be read as a Core ML package"):
        read_whole(path)


def read_whole(path):
    return [read() for read in read_program(path).constants.values()]

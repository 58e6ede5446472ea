"""What is timed under ONNX Runtime computes what the module computes, or is no number."""

import math

import pytest
import torch
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.latency import onnx as onnx_module
from harness.latency.onnx import OnnxLatency, signal_to_error_db
from harness.models.build import build, example_inputs
from harness.records.provenance import processor_name, versions
from harness.records.quantity import Failed, Measured, Unavailable

QUICK = OnnxLatency(iterations=5, warm_up=1)


def test_the_label_says_the_runtime_its_version_and_the_processor(net, inputs):
    timed = QUICK.measure(net, inputs)
    assert isinstance(timed, Measured)
    assert timed.conditions["onnxruntime"] == versions(("onnxruntime",))["onnxruntime"]
    assert timed.conditions["processor"] == processor_name()
    assert (timed.conditions["threads"], timed.conditions["provider"]) == (1, "CPUExecutionProvider")


def test_a_graph_that_computes_something_else_is_a_failure_and_no_number(net, inputs, monkeypatch):
    """The mutation: the runtime gets a graph with one weight changed after the module's own output was computed."""
    session = onnx_module._session

    def of_another_graph(path, threads):
        with torch.no_grad():
            net.conv.weight[0] += 0.1
            torch.onnx.export(net.eval(), inputs, dynamo=True, verbose=False).save(path)
        return session(path, threads)

    monkeypatch.setattr(onnx_module, "_session", of_another_graph)
    timed = QUICK.measure(net, inputs)
    assert isinstance(timed, Failed)
    assert timed.phase == "onnx parity"
    assert "below 60" in timed.message


def test_zeros_do_not_hide_a_wrong_graph(net, inputs, monkeypatch):
    """A branch that begins as nothing holds numbers while the outputs are compared; the module itself is left alone."""
    exported = []
    export = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda module, *a, **k: exported.append(module) or export(module, *a, **k)
    )
    assert not net.zero.weight.any()
    assert isinstance(QUICK.measure(net, inputs), Measured)
    assert all(parameter.all() for parameter in exported[0].parameters())
    assert not net.zero.weight.any()
    assert not net.zero.bias.any()


def test_what_does_not_export_fails_with_its_stage():
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum().item() > 0 else x - 1

    timed = QUICK.measure(Branches(), (torch.randn(1, 4, 8, 8),))
    assert isinstance(timed, Failed)
    assert timed.phase == "onnx export"
    assert timed.message
    assert "\n" not in timed.message


def test_without_the_extra_one_sentence_names_it(net, inputs, monkeypatch):
    monkeypatch.setattr(onnx_module, "find_spec", lambda name: None if name == "onnxscript" else object())
    timed = QUICK.measure(net, inputs)
    assert isinstance(timed, Unavailable)
    assert "pip install 'unet-harness[onnx]'" in timed.reason


@pytest.mark.parametrize(("error", "decibels"), [(0.0, math.inf), (0.1, 20.0), (1e-3, 60.0), (math.nan, -math.inf)])
def test_the_decibels_are_those_of_the_definition(error, decibels):
    reference = torch.ones(1, 2, 3, 3)
    assert signal_to_error_db(reference + error, reference) == pytest.approx(decibels, abs=0.01)


@pytest.mark.slow
def test_a_unet_of_the_harness_exports_with_all_its_knobs():
    edits = {"stages.*.channels": 16, "head_dim": 8, "self_attention": "mqa", "qk_norm": "rms"}
    edited = with_edits(architecture("laptop/thin_sdxl"), edits)
    assert isinstance(QUICK.measure(build(edited), example_inputs(edited, latent=8)), Measured)

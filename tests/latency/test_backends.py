"""One contract for every latency backend: the CPU, ONNX Runtime, the predictor, the iPhone, the Mac."""

import copy
from dataclasses import fields

import pytest
import torch

from harness.latency.backend import LatencyBackend
from harness.latency.config import LatencyConfig
from harness.records.errors import UserError
from harness.records.plain import Plain, canonical_json, from_plain, identity, to_plain
from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.records.record import TrialRecord
from harness.trials.compose import compose_plain

FIELDS = [field.name for field in fields(LatencyConfig) if field.name != "latent"]
QUICK = {"iterations": 5, "warm_up": 2}
SETTINGS = {"cpu": QUICK, "onnx": QUICK}  # what makes a measurement short, or is asked for
KIND = {"predicted": Predicted}  # every other is measured


def backend(name: str) -> LatencyBackend:
    return from_plain(LatencyConfig, {name: SETTINGS.get(name, {})}).backends[0]


@pytest.mark.parametrize("name", FIELDS)
class TestEveryBackend:
    def test_has_the_name_of_its_setting_and_a_quantity_of_its_own(self, name):
        assert backend(name).name == name
        assert backend(name).quantity == f"latency_{name}"
        assert from_plain(LatencyConfig, {}).backends == ()

    def test_gives_milliseconds_of_its_kind_or_says_why_not(self, name, net, inputs):
        quantity = backend(name).measure(net, inputs)
        assert isinstance(quantity, KIND.get(name, Measured) | Unavailable | Failed)
        if isinstance(quantity, Measured | Predicted):
            assert quantity.unit == "ms"
            assert 0 < quantity.low <= quantity.value <= quantity.high
            assert {"device", "latent", "batch"} <= quantity.conditions.keys()
            assert (quantity.conditions["latent"], quantity.conditions["batch"]) == (8, 1)
        elif isinstance(quantity, Unavailable):
            assert quantity.reason.startswith("needs ")
            assert "\n" not in quantity.reason

    def test_leaves_the_module_and_the_process_as_they_were(self, name, net, inputs):
        before = {key: value.clone() for key, value in net.state_dict().items()}
        modes, threads, drawn = [p.training for p in net.modules()], torch.get_num_threads(), torch.get_rng_state()
        backend(name).measure(net, inputs)
        assert [part.training for part in net.modules()] == modes
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())

    def test_says_whether_it_needs_weights_and_holds_to_it(self, name, net, inputs):
        on_meta = copy.deepcopy(net).to("meta"), tuple(x.to("meta") for x in inputs)
        if not backend(name).needs_weights:
            assert isinstance(backend(name).measure(*on_meta), Measured | Predicted)
            return
        if isinstance(backend(name).measure(net, inputs), Unavailable):  # the machine cannot, whatever the module is
            assert isinstance(backend(name).measure(*on_meta), Unavailable)
            return
        with pytest.raises(UserError, match="real parameters"):
            backend(name).measure(*on_meta)

    def test_fits_a_record(self, name, net, inputs):
        quantity = backend(name).measure(net, inputs)
        record = TrialRecord(
            name="a",
            architecture={},
            architecture_fingerprint="a",
            protocol={},
            protocol_fingerprint="p",
            seed=0,
            state="complete",
            quantities={backend(name).quantity: quantity},
        )
        assert from_plain(TrialRecord, to_plain(record)) == record

    def test_settings_survive_the_way_to_plain_data_and_back(self, name):
        config = from_plain(LatencyConfig, {name: SETTINGS.get(name, {})})
        plain = to_plain(config)
        assert isinstance(plain, dict)
        assert from_plain(LatencyConfig, plain) == config
        assert canonical_json(identity(config.backends[0])) == canonical_json(identity(backend(name)))

    def test_its_instrument_is_plain_and_the_same_when_asked_again(self, name):
        instrument: Plain = to_plain(backend(name).instrument())
        assert isinstance(instrument, dict)
        assert instrument == to_plain(backend(name).instrument())
        taken = {"architecture", "latent", "backend", "settings"}  # the other parts of a measurement's key
        assert not taken & instrument.keys()

    def test_an_unknown_setting_lists_those_that_exist(self, name):
        with pytest.raises(UserError, match=f"unknown setting 'latency.{name}.speed'"):
            from_plain(LatencyConfig, {name: {"speed": 1}}, where="latency")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"latent": 0}, "latent must be at least 1, not 0"),
        ({"gpu": {}}, "unknown setting 'gpu'; choose one of: .*cpu"),
        ({"predicted": {"chip": "A9"}}, "unknown chip 'A9'; choose one of: .*A14"),
        (
            {"predicted": {"compute_unit": "NE"}},
            "unknown value for 'predicted.compute_unit': 'NE'; choose one of: .*ALL",
        ),
        ({"predicted": {"weight_bits": 0}}, "latency.predicted.weight_bits is 1 to 16, not 0"),
        ({"iphone": {"protocol": {"iterations": 3}}}, "protocol.iterations must be at least 15, not 3"),
        ({"mac": {"protocol": {"drift_limit": 0.0}}}, "protocol.drift_limit must be above 0, not 0"),
        *(
            ({name: {setting: value}}, f"latency.{name}.{setting} must be {rule}, not {value}")
            for name in ("cpu", "onnx")
            for setting, value, rule in (
                ("threads", 0, "at least 1"),
                ("iterations", 1, "at least 5"),
                ("warm_up", 0, "at least 1"),
                ("seconds", 0.0, "above 0"),
            )
        ),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        from_plain(LatencyConfig, wrong)


@pytest.mark.parametrize(
    ("option", "quantities"),
    [
        ("cpu", ["latency_cpu", "latency_iphone"]),
        ("cpu_and_predicted", ["latency_cpu", "latency_predicted"]),
        ("predicted", ["latency_predicted"]),
        ("onnx", ["latency_cpu", "latency_onnx"]),
        ("none", []),
        ("iphone", ["latency_predicted", "latency_iphone"]),
        ("mac", ["latency_mac"]),
    ],
)
def test_the_yaml_options_build(option, quantities):
    plain = compose_plain([f"latency={option}"])["latency"]
    assert [backend.quantity for backend in from_plain(LatencyConfig, plain).backends] == quantities

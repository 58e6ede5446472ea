from pathlib import Path

import pytest
from tiny_study import share_cache, tiny_spec

from harness.models.parameters import filled_copy
from harness.models.weights import Training, write_weights
from harness.search.promote import promoted_yaml
from harness.trials.outcomes import record_of
from harness.trials.prepared import prepare
from harness.trials.samples import initialised_network


@pytest.fixture(scope="module")
def studied(tmp_path_factory, cache):
    """A working directory whose store has one trial, as if trained; its spec."""
    folder = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        share_cache(Path("runs"), cache)
        spec = tiny_spec("sampling.guidance_scale=2", "sampling.guidance_interval=[0,0.6]")
        network = filled_copy(initialised_network(spec.architecture, 0))
        prompts = prepare(spec.settings).task.prompts
        training = Training(trial=spec.key, latent=8, text=prompts.identity)
        file = spec.store.artifact(spec.key, "ema.safetensors")
        file.parent.mkdir(parents=True)
        write_weights(file, network.state_dict(), spec.architecture, training)
        record = record_of(spec, "complete", {}, artifacts={file.name: file.name})
        spec.store.put(record)
        Path("winner.yaml").write_text(promoted_yaml(record, {}))
    return folder, spec


@pytest.fixture
def spec(studied, monkeypatch):
    """The trial; the working directory is its study's."""
    monkeypatch.chdir(studied[0])
    return studied[1]

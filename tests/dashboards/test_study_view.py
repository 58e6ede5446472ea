"""optuna-dashboard, asked over its own addresses, shows what the sweep has, and changes nothing of it."""

import io
import json
import threading
import urllib.request
import zipfile
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from fake_sweep import World

from harness.cli import main
from harness.dashboards import study_view
from harness.dashboards.serve import application, serve
from harness.publish.folder import CONFIG
from harness.records.errors import UserError
from harness.search.finalists import Finalists, rescore_finalists
from harness.search.study import SWEEP_FILE, stored_study

PICTURE = b"\x89PNG of a candidate"


def ask(app, path: str, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    environ: dict = {}
    setup_testing_defaults(environ)
    address, _, query = path.partition("?")
    environ |= {"PATH_INFO": address, "QUERY_STRING": query, "REQUEST_METHOD": method}
    said: list = []
    content = b"".join(app(environ, lambda status, headers, *_: said.extend((status, dict(headers)))))
    return said[0], said[1], content


def shown(app) -> dict:
    (study,) = json.loads(ask(app, "/api/studies")[2])["study_summaries"]
    return json.loads(ask(app, f"/api/studies/{study['study_id']}")[2]) | {"id": study["study_id"]}


def attributes(trial: dict) -> dict[str, str]:
    return {each["key"]: each["value"] for each in trial["user_attrs"]}


def swept(folder: Path, kind: str = "sqlite") -> World:
    """A sweep with candidates refused, stopped, complete and re-scored; each training left a picture."""
    folder.mkdir(parents=True)
    world = World(folder)
    driver = world.driver(trials=9, budgets=(100, 300), limits={"macs": 20_000}, storage=kind)
    rescore_finalists(driver, Finalists(most=2, seeds=2), driver.run())
    for key in world.workers.records:
        path = folder.parent / "store" / "artifacts" / key / "samples.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(PICTURE + key.encode())
        (path.parent / ".half.png").write_bytes(b"")
    return world


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_it_shows_values_constraints_rescored_values_and_samples(tmp_path, cheap, kind):
    world = swept(tmp_path / "fake", kind)
    detail = shown(app := application(tmp_path / "fake", "fake"))
    study = stored_study(tmp_path / "fake", "fake")
    trials = {trial["number"]: trial for trial in detail["trials"]}
    assert sorted(trials) == [trial.number for trial in study.trials]
    states = {"refused": 0, "stopped": 0, "complete": 0}
    for trial in study.trials:
        told, seen = attributes(trials[trial.number]), trials[trial.number]
        assert seen["constraints"] == [pytest.approx(trial.user_attrs["macs"] / 20_000 - 1)]
        assert seen.get("values") == trial.values
        levels = trial.user_attrs.get("levels", [])
        states["refused" if not levels else "stopped" if "stopped" in told else "complete"] += 1
        rescored = study.user_attrs.get(f"rescored:trial-{trial.number}")
        keys = {level["key"]: f"samples-{level['steps']}-steps.png" for level in levels}
        if levels:
            assert told["steps"] == str(levels[-1]["steps"])
            assert [float(told["last kid"]), float(told["last macs"])] == levels[-1]["values"] == trial.values
        if rescored is not None:
            assert float(told["rescored kid"]) == rescored["mean"][0]
            assert (told["rescored seeds"], "rescored macs" in told) == ("2", True)
            keys |= {score["key"]: f"samples-seed-{score['seed']}.png" for score in rescored["scores"]}
        else:
            assert not any(name.startswith("rescored") for name in told)
        assert {each["filename"] for each in seen["artifacts"]} == set(keys.values())
        found = {
            ask(app, f"/artifacts/{detail['id']}/{seen['trial_id']}/{each['artifact_id']}")[2]
            for each in seen["artifacts"]
        }
        assert found == {PICTURE + key.encode() for key in keys}
    assert all(states.values()), states
    assert sum(name.startswith("rescored:") for name in study.user_attrs) == 2
    assert world.study.metric_names == detail["objective_names"] == ["kid", "macs"]


WRITING = (
    ("DELETE", "/api/studies/{id}"),
    ("POST", "/api/studies/{id}/rename"),
    ("PUT", "/api/studies/{id}/note"),
    ("POST", "/api/trials/1/user-attrs"),
    ("DELETE", "/api/artifacts/{id}/1/00"),
)


def test_nothing_can_be_changed_through_it(tmp_path, cheap):
    swept(tmp_path / "fake")
    before = (tmp_path / "fake" / "study.db").read_bytes()
    app = application(tmp_path / "fake", "fake")
    detail = shown(app)
    for method, path in WRITING:
        status, _, content = ask(app, path.format(id=detail["id"]), method)
        assert status.startswith("403")
        assert "the sweep's driver alone writes" in json.loads(content)["reason"]
    assert (tmp_path / "fake" / "study.db").read_bytes() == before
    view = study_view.ShownStudy(tmp_path / "fake", "fake")
    for write in (lambda: view.delete_study(detail["id"]), lambda: view.remove("00"), lambda: view.create_new_trial(1)):
        with pytest.raises(study_view.OnlyReadError):
            write()


def test_a_running_sweep_is_shown_as_it_grows(tmp_path, cheap, monkeypatch):
    monkeypatch.setattr(study_view, "EVERY_S", 0.0)
    monkeypatch.setattr(study_view, "REST", 0)
    folder = tmp_path / "fake"
    folder.mkdir()
    world = World(folder)
    world.run(trials=2)
    view = study_view.ShownStudy(folder, "fake")
    assert len(view.get_all_trials(view.view.study._study_id)) == 2
    world.run(trials=5)
    assert len(view.get_all_trials(view.view.study._study_id)) == 5


def test_a_published_folder_and_a_chain_s_package_are_handed_out_zipped(tmp_path, cheap, monkeypatch):
    """Of the candidate, and of what was promoted from it."""
    world = swept(tmp_path / "fake")
    complete = next(trial for trial in world.study.trials if trial.values and "stopped" not in trial.user_attrs)
    key = complete.user_attrs["levels"][-1]["key"]
    monkeypatch.setattr("harness.dashboards.files.ancestors", lambda _store, trial: [key] if trial == "child" else [])
    trials = {"winner": key, "chains/a/longer": "child", "fake/other": "nobody's"}
    for place, trial in {**trials, "../far/away": key}.items():
        folder = tmp_path / place
        (folder / "coreml" / "unet.mlpackage").mkdir(parents=True)
        (folder / CONFIG).write_text(trial)
        (folder / "coreml" / "unet.mlpackage" / "Manifest.json").write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / CONFIG).write_text("")  # somebody's

    class Read:
        def __init__(self, folder: Path) -> None:
            self.trial = (folder / CONFIG).read_text()
            if not self.trial:
                raise UserError("not published")

    monkeypatch.setattr("harness.dashboards.files.read_manifest", Read)
    weights = tmp_path / "store" / "artifacts" / key / "ema.safetensors"
    (tmp_path / "chains" / "a" / "a-c8fdd0.mlpackage").mkdir()
    commands = [
        f"harness export {weights} --to runs/chains/a/a-c8fdd0.mlpackage --json > x",
        "harness train x out=runs",
    ]
    log = "".join(json.dumps({"command": command}) + "\n" for command in commands)
    (tmp_path / "chains" / "a" / "log.jsonl").write_text(log + '{"command": "harness exp')
    app = application(tmp_path / "fake", "fake", [tmp_path / "../far/away"])
    detail = shown(app)
    zipped = {
        each["filename"]: (trial["number"], trial["trial_id"], each["artifact_id"])
        for trial in detail["trials"]
        for each in trial["artifacts"]
        if each["mimetype"] == "application/zip"
    }
    assert zipped.keys() == {"winner.zip", "longer.zip", "away.zip", "a-c8fdd0.mlpackage.zip"}
    assert {number for number, _, _ in zipped.values()} == {complete.number}
    _, trial_id, artifact = zipped["longer.zip"]
    status, headers, content = ask(app, f"/artifacts/{detail['id']}/{trial_id}/{artifact}")
    assert (status, headers["Content-Type"]) == ("200 OK", "application/zip")
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert {"longer/config.json", "longer/coreml/unet.mlpackage/Manifest.json"} <= set(names)
    with pytest.raises(UserError, match="not published"):
        application(tmp_path / "fake", "fake", [tmp_path / "data"])


def test_the_page_is_an_artifact_of_the_study_and_a_file_that_is_gone_is_not_found(tmp_path, cheap):
    world = swept(tmp_path / "fake")
    (tmp_path / "fake" / "report.html").write_text("<p>the page")
    detail = shown(app := application(tmp_path / "fake", "fake"))
    (page,) = detail["artifacts"]
    status, headers, content = ask(app, f"/artifacts/{detail['id']}/{page['artifact_id']}")
    assert (status, headers["Content-Type"], content) == ("200 OK", "text/html", b"<p>the page")
    view = study_view.ShownStudy(tmp_path / "fake", "fake")
    for key in world.workers.records:
        (tmp_path / "store" / "artifacts" / key / "samples.png").unlink()
    for artifact in view.view.files.keys() - {page["artifact_id"]}:
        with pytest.raises(study_view.ArtifactNotFound):
            view.open_reader(artifact)


def test_it_is_served_and_a_port_that_is_taken_is_one_sentence(tmp_path, cheap):
    swept(tmp_path / "fake")
    app, addresses, ready = application(tmp_path / "fake", "fake"), [], threading.Event()
    told = lambda address: (addresses.append(address), ready.set())  # noqa: E731
    threading.Thread(target=serve, args=(app, "127.0.0.1", 0, told), daemon=True).start()
    assert ready.wait(20)
    with urllib.request.urlopen(addresses[0], timeout=20) as page:
        assert b"<title>Optuna Dashboard" in page.read()
    port = int(addresses[0].split(":")[-1].split("/")[0])
    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*--port 0"):
        serve(app, "127.0.0.1", port, told)


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        (SWEEP_FILE, "has no study yet; `harness sweep fake` begins it"),
        ("manifest.json", "'fake' is no sweep, and only a sweep has an Optuna study"),
        (None, "no study was begun in"),
    ],
)
def test_what_has_no_study_is_one_sentence(tmp_path, capsys, mark, sentence):
    (tmp_path / "fake").mkdir()
    if mark is not None:
        (tmp_path / "fake" / mark).write_text('{"storage": "sqlite"}')
    assert main(["dashboard", "fake", f"out={tmp_path}"]) != 0
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "fake" / "study.db").exists()

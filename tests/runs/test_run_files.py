from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

import se_resnet
from se_resnet.app import example_images, run_facts
from se_resnet.errors import UserError
from se_resnet.export import parity
from se_resnet.metrics.predictions import Predictions
from se_resnet.package import config as package_config
from se_resnet.package import model_card
from se_resnet.predict.provenance import read_history
from se_resnet.report import plots
from se_resnet.report.reporting import characteristics, checklist, flow_chart, methods
from se_resnet.report.reporting.study import Study
from se_resnet.runs import integrity, lock, run_files, workdir
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.run_files import TRAIN, read_split
from se_resnet.runs.run_folder import RunFolder
from se_resnet.tracking import metric_log
from se_resnet.weights import formats, pretrained
from tests.helpers.run_folders import make_run_folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A run, and in ``package`` beside it a package of it."""
    folder = make_run_folder(tmp_path_factory.mktemp("original") / "run")
    se_resnet.save_pretrained(folder, folder.parent / "package")
    return folder


@pytest.fixture(scope="module")
def loaded(original) -> se_resnet.Predictor:
    return se_resnet.load_run(original)


@pytest.fixture
def made(original, tmp_path) -> Path:
    """A copy of the run, whose files may be damaged."""
    shutil.copytree(original.parent, tmp_path / "copy")
    return tmp_path / "copy" / "run"


@pytest.fixture(autouse=True)
def bounded():
    """Ends a test that waits, and one that takes all memory."""

    def end(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, end), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**31
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1][1]))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before[0])
    resource.setrlimit(resource.RLIMIT_AS, before[1])


def write_card(run: Path, loaded: se_resnet.Predictor) -> None:
    predictor = se_resnet.Predictor(loaded.run, "x", read_history(run))
    facts = package_config.describe(predictor, "MIT")
    json.dumps(facts, allow_nan=False)
    model_card.write_card(facts, "se_resnet")


def show_page(run: Path, loaded: se_resnet.Predictor) -> None:
    config = RunFolder(run).config()
    run_facts.describe(run, loaded.run, config)
    example_images.find_samples(run, config)


def choose_parity_images(run: Path, _: object) -> None:
    parity.choose_images(run, RunFolder(run).config()["data"]["dir"], None)


def resume(run: Path, _: object) -> None:
    workdir.claim(RunFolder(run), {"seed": 0}, free=())


def evaluate(run: Path, _: object) -> None:
    RunFolder(run).config()
    RunFolder(run).data_facts()
    RunFolder(run).patients(TRAIN)


def load_best(run: Path, _: object) -> None:
    workdir.load_best(run)


def restore_latest(run: Path, loaded: se_resnet.Predictor) -> None:
    like = jax.device_get(loaded.run.variables)
    Checkpoints(run / "checkpoints").restore_latest(like, run_files.PROGRESS_FORM)


def load_package(run: Path, _: object) -> None:
    se_resnet.from_pretrained(run.parent / "package")


def fill_tables(run: Path, _: object) -> None:
    folder = RunFolder(run)
    evaluation = folder.evaluation()
    study = Study.read(folder, evaluation.metrics(), evaluation.predictions())
    for guideline in checklist.GUIDELINES:
        checklist.fill(guideline, study)
    methods.write_text(study)
    flow_chart.draw_flow(study)
    characteristics.count_characteristics(study)


# What the commands and the Python interface do with each file.
READERS = {
    "config.json": (
        *(show_page, choose_parity_images, write_card, resume, evaluate, load_best, fill_tables),
    ),
    "data.json": (write_card, evaluate, fill_tables),
    "split.csv": (show_page, choose_parity_images, evaluate, fill_tables),
    "software.json": (fill_tables,),
    "weights.json": (
        fill_tables,
        write_card,
        lambda run, _: pretrained.keep_facts(
            pretrained.load("none"), run / "weights.json", begun=True
        ),
    ),
    "metrics.jsonl": (
        fill_tables,
        lambda run, _: plots.training(metric_log.read_log(run / "metrics.jsonl")),
    ),
    "trackers.json": (lambda run, _: metric_log._read_state(run / "trackers.json"),),
    "eval/test/metrics.json": (show_page, write_card, fill_tables),
    "eval/test/predictions.csv": (
        fill_tables,
        lambda run, _: Predictions.read_csv(run / "eval/test/predictions.csv"),
    ),
    "checkpoints/best/2/facts.json": (load_best, fill_tables),
    "checkpoints/best/2/tree/_METADATA": (load_best,),
    "checkpoints/best/2/tree/manifest.ocdbt": (load_best,),
    "checkpoints/latest/2/facts.json": (restore_latest,),
    "../package/config.json": (load_package,),
    "../package/model.safetensors": (
        load_package,
        lambda run, _: pretrained.load(str(run.parent / "package")),
    ),
}


def as_content(content: bytes):
    def damage(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return damage


def as_link(target: str):
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target.format(path.name))

    return damage


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_hole(path: Path) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)


KINDS = {
    "folder": as_folder,
    "pipe": as_pipe,
    "device without end": as_link("/dev/zero"),
    "full device": as_link("/dev/full"),
    "link to itself": as_link("{}"),
    "terabyte": as_hole,
    "NUL bytes": as_content(bytes(100) + b"\n{}\n"),
    "UTF-16": as_content('{"a": 1}\n{}\n'.encode("utf-16")),
    "Latin-1": as_content('{"a": "é"}\n{}\n'.encode("latin-1")),
    "null": as_content(b"null\nnull\n"),
    "list": as_content(b"[1]\n[1]\n"),
    "string": as_content(b'"x"\n"x"\n'),
    "number": as_content(b"5\n5\n"),
    "deep": as_content(b"[" * 100_000 + b"\n{}\n"),
    "deep objects": as_content(b'{"a":' * 500 + b"1" + b"}" * 500 + b"\n{}\n"),
    "long number": as_content(b'{"step": ' + b"9" * 5000 + b"}\n{}\n"),
    "NaN": as_content(b'{"step": 1, "x": NaN}\n{}\n'),
    "infinite": as_content(b'{"step": 1, "x": 1e999}\n{}\n'),
    "twice": as_content(b'{"step": 1, "x": 2, "x": 3}\n{}\n'),
    "long cell": as_content(b'file,role\n"' + b"a" * 200_000 + b'",test\n'),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_whatever_replaces_a_file_is_refused_in_a_sentence(made, loaded, name, kind):
    KINDS[kind](made / name)
    for reader in READERS[name]:
        with pytest.raises(UserError) as refused:
            reader(made, loaded)
        told = str(refused.value)
        assert len(told) < 900 and "\n" not in told
        assert Path(name).name in told or ("checkpoints" in name and "/2 is damaged" in told)


def test_a_pipe_for_the_owners_note_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "lock.json")
    assert lock._describe(tmp_path / "lock.json") == "another process"


VALUES = (None, "x", -1, [], True, {}, [[1]], 10**30, 0.5, "")


def fields(value, path=()):
    """The paths of all fields of a JSON value; of a list the first element stands for all."""
    yield path
    if isinstance(value, dict):
        for name, part in value.items():
            yield from fields(part, (*path, name))
    elif isinstance(value, list) and value:
        yield from fields(value[0], (*path, 0))


def changed(value, path, new):
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    part = copy
    for name in path[:-1]:
        part = part[name]
    if new is Ellipsis:
        del part[path[-1]]
    else:
        part[path[-1]] = new
    return copy


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(".json")])
def test_any_value_of_any_field_is_used_or_refused_in_a_sentence(made, loaded, name):
    path = made / name
    good = json.loads(path.read_text())
    sealed = path.name == "facts.json"
    content = good["facts"] if sealed else good
    # A few fields stand for all, which tests/fuzz tries.
    paths = [p for p in fields(content) if not {"by_subtype", "selective", "reliability"} & {*p}]
    step = 1 + len(paths) // 15
    for number, place in enumerate(paths[::step]):
        for new in (VALUES[number % len(VALUES)], None, ...):
            if not place and new is Ellipsis:
                continue
            value = changed(content, place, new)
            if sealed:
                value = {"facts": value, "files": good["files"]}
                value |= {"sha256": integrity._digest(value)}
            path.write_text(json.dumps(value))
            for reader in READERS[name]:
                if reader is load_best and not sealed:
                    continue  # takes long, and needs of config.json only that it is an object
                try:
                    reader(made, loaded)
                except UserError as refused:
                    assert len(str(refused)) < 900


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stage_sizes", [1, 1, 1], "it holds nothing for batch_stats/stage3"),
        ("width", 8, r"it holds \(4,\) for .*, the network needs \(8,\)"),
        ("attention", "none", "the network needs nothing"),
        ("attention", "cbam", "it holds"),
        ("attention", "flax.linen:Module", "is a parent class"),
        ("attention", "se_resnet.attention:ChannelGate", "is a parent class"),
        ("attention_options", {"name": "x"}, "damaged"),
        ("attention_options", {"reduction": [[1]]}, "reduction"),
    ],
)
def test_facts_of_another_network_than_the_stored_one_are_told(made, field, value, words):
    step = made / "checkpoints" / "best" / "2"
    facts = integrity.facts_of(step)
    facts["model"][field] = value
    (step / "facts.json").unlink()
    integrity.seal(step, facts)
    with pytest.raises(UserError, match=words):
        workdir.load_best(made)


@pytest.mark.parametrize("content", [b"[" * 5000, b'{"a":' * 500 + b"1" + b"}" * 500, b"\xff"])
def test_what_orbax_would_read_is_checked_even_if_sealed(made, content):
    step = made / "checkpoints" / "best" / "2"
    facts = integrity.facts_of(step)
    (step / "tree" / "_METADATA").write_bytes(content)
    (step / "facts.json").unlink()
    integrity.seal(step, facts)
    with pytest.raises(UserError, match="best/2 is damaged"):
        workdir.load_best(made)


def test_a_pipe_beside_the_files_of_a_checkpoint_is_refused(made):
    os.mkfifo(made / "checkpoints" / "best" / "2" / "tree" / "d" / "pipe")
    with pytest.raises(UserError, match="tree/d/pipe is not a regular file"):
        workdir.load_best(made)


HEADER = "file,slide,accession,magnification,subtype,label,role\n"
ROW = "a.png,s,14-1,40,A,0,test\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW, "lacks the column 'file'"),
        (HEADER + ROW + ROW, "line 3: it lists a.png twice"),
        (HEADER + ROW.replace("test", "hero"), "line 2: unknown role 'hero'"),
        (HEADER + ROW.replace(",0,", ",benign,"), "line 2: the label 'benign'"),
        (HEADER + ROW.replace("40", "9" * 5000), "line 2: the magnification"),
        (HEADER + "a.png,s\n", "line 2: 2 values instead of 7"),
        (HEADER + '"a.png,s\n', "line 2: unexpected end of data"),
        (HEADER.replace("slide", "file") + ROW, "has twice the column 'file'"),
    ],
)
def test_a_mistake_in_a_split_is_named_with_its_line(tmp_path, text, words):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match=rf"split\.csv cannot be read .*{words}"):
        run_files.read_split(tmp_path / "split.csv", HEADER.strip().split(","))


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n\r\n")])
def test_a_split_that_a_spreadsheet_has_saved_is_read(tmp_path, change):
    (tmp_path / "split.csv").write_text(change(HEADER + ROW), newline="", encoding="utf-8")
    (row,) = read_split(tmp_path / "split.csv")
    assert (row["file"], row["role"]) == ("a.png", "test")


def test_a_run_of_old_without_optional_files_and_fields_is_read(made, loaded):
    (made / "weights.json").write_text('{"name": "none"}')
    config = json.loads((made / "config.json").read_text())
    del config["data"]["placement"]
    config["later"] = {"field": 1}
    (made / "config.json").write_text(json.dumps(config))
    write_card(made, loaded)
    for name in ("weights.json", "eval/test/metrics.json"):
        (made / name).unlink()
    show_page(made, loaded)
    write_card(made, loaded)
    assert read_history(made)["weights"] is read_history(made)["metrics"] is None


def safetensors_of(shape: list[int], size: int = 0) -> bytes:
    header = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    "shape", [[0, 2**63], [2**62, 4], [2**64, 0], [2**32, 2**32], [1] * 65, [-1], [0] * 10**5]
)
def test_shapes_that_no_array_has_are_refused(tmp_path, shape):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_of(shape, 4 if shape == [1] * 65 else 0))
    with pytest.raises(UserError, match=r"model\.safetensors.*cannot be used"):
        formats.read(path)


def test_tensorflow_js_cannot_name_one_file_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_BYTES", 1000)
    np.zeros(100, np.float32).tofile(tmp_path / "shard")
    weights = [{"name": "x", "dtype": "float32", "shape": [100_000]}]
    manifest = [{"paths": ["shard"] * 1000, "weights": weights}]
    (tmp_path / "model.json").write_text(
        json.dumps({"weightsManifest": [{**manifest[0], "paths": ["shard"] * 9}]})
    )
    with pytest.raises(UserError, match="larger than"):
        formats.read(tmp_path)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, {"checkpoint": {"choose": "best"}}),
        ({"checkpoint": {"choose": "last"}}, {"checkpoint": {"choose": "last"}}),
        ({"checkpoint": [1]}, {"checkpoint": [1]}),
    ],
)
def test_a_configuration_is_completed_where_it_lacks_a_field(found, expected, monkeypatch):
    monkeypatch.setattr(run_files, "FIELDS_ADDED", {"checkpoint.choose": "best"})
    before = json.dumps(found)
    assert run_files.complete(found) == expected
    assert json.dumps(found) == before

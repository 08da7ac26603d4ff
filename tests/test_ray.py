"""Data sets on a local Ray of two workers, one of which is killed; and a worker by itself."""

import doctest
import functools
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

from igtf import Explainer
from igtf.ray import __main__ as command
from igtf.ray import explain_dataset, load_explainer
from igtf.ray.dataset import Columns, Rows

ROOT = Path(__file__).parent.parent
ROWS, STEPS = 123, 8
X = np.random.default_rng(1).normal(size=(ROWS, 6)).astype("float32")
BLOCK = re.search(r"^```py\n(.*?)^```", (ROOT / "docs/production.md").read_text("utf-8"), re.M | re.S)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network in a file."""
    folder = tmp_path_factory.mktemp("files")
    layers = [tf.keras.Input((6,)), tf.keras.layers.Dense(8, "relu"), tf.keras.layers.Dense(3, "softmax")]
    randomize(tf.keras.Sequential(layers)).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """What one process makes of the rows in one batch."""
    return load_explainer(folder / "model.keras", num_steps=STEPS)(X, progress=False)


@pytest.fixture(scope="module")
def ray(folder):
    """A cluster on this machine, with places for two workers, which find this folder and the package."""
    if os.name == "nt":
        pytest.skip("Ray calls its support of Windows a beta")
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    finally:
        ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class Dying(Explainer):
    """Kills its process in the middle of its work, once."""

    def __call__(self, *arguments, **options):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 3:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return super().__call__(*arguments, **options)


def make_dying(path, mark):
    model = tf.keras.models.load_model(path, compile=False)
    explainer = Dying(model, num_steps=STEPS)
    explainer.mark = mark
    return explainer


def arranged(dataset):
    """The columns in the order of the ids, each of which is there once."""
    batches = list(dataset.iter_batches(batch_size=None, batch_format="numpy"))
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(columns["id"])
    np.testing.assert_array_equal(columns["id"][order], np.arange(ROWS))
    return {name: column[order] for name, column in columns.items()}


def test_two_workers_lose_and_double_nothing_when_one_is_killed_and_go_on_where_rows_fail(
    ray, folder, expected, tmp_path
):
    x = X.copy()
    x[[17, 80]] = np.nan
    table = ray.data.from_items(
        [{"id": i, "x": row.tolist()} for i, row in enumerate(x)], override_num_blocks=4
    )
    mark = tmp_path / "killed"
    found = explain_dataset(
        table,
        functools.partial(make_dying, folder / "model.keras", mark),
        inputs="x",
        batch_size=8,
        concurrency=2,
        keep=["id"],
        row_id="id",
        on_error="continue",
    )
    columns = arranged(found)
    assert mark.exists()  # a worker was killed
    right = np.isin(np.arange(ROWS), [17, 80], invert=True)
    assert_close(columns["attributions"][right], expected.values[right], 1e-5)
    assert_close(columns["prediction"][right], expected.outputs[right], 1e-5)
    np.testing.assert_array_equal(columns["target"][right], expected.targets[right])
    assert np.isnan(columns["attributions"][~right]).all() and (columns["target"][~right] == -1).all()
    assert all(("NaN" in text) != good for text, good in zip(columns["failure"], right))


@pytest.mark.slow
def test_the_page_explains_a_file_of_parquet(ray, folder, expected, tmp_path):
    table = ray.data.from_items(
        [{"id": i, "x": row.tolist()} for i, row in enumerate(X)], override_num_blocks=4
    )
    table.write_parquet(str(tmp_path / "rows.parquet"))
    # The folder of the workers is another.
    block = re.sub(r'"(\w+\.parquet)"', rf'"{tmp_path}/\1"', BLOCK).replace(
        "model.keras", f"{folder}/model.keras"
    )
    exec(compile(block, "docs/production.md", "exec"), {})
    columns = arranged(ray.data.read_parquet(str(tmp_path / "maps.parquet")))
    assert_close(
        columns["attributions"],
        load_explainer(folder / "model.keras", tolerance=0.01)(X, progress=False).values,
        1e-5,
    )
    np.testing.assert_array_equal(columns["target"], expected.targets)


@pytest.mark.slow
def test_the_command_explains_a_file_and_an_error_names_its_rows(ray, folder, expected, tmp_path, capsys):
    table = ray.data.from_items(
        [{"id": i, **dict(zip("abcdef", map(float, row)))} for i, row in enumerate(X)]
    )
    table.write_csv(str(tmp_path / "rows.csv"))
    files = [str(folder / "model.keras"), str(tmp_path / "rows.csv")]
    options = ["--inputs", *"abcdef", "--num-steps", str(STEPS), "--row-id", "id", "--keep", "id"]
    command.main([*files, str(tmp_path / "maps"), *options])
    assert f"{ROWS} rows are explained" in capsys.readouterr().out
    columns = arranged(ray.data.read_parquet(str(tmp_path / "maps")))
    assert set(columns) == {"id", "attributions", "prediction", "target", "delta"}
    assert_close(columns["attributions"], expected.values, 1e-5)
    with pytest.raises(SystemExit):
        command.main([*files, str(tmp_path / "maps"), *options])
    assert "which is there" in capsys.readouterr().err
    with pytest.raises(Exception, match="(?s)the rows with id .*targets is 7"):
        command.main([*files, str(tmp_path / "more"), *options, "--targets", "7"])


# A worker by itself -----------------------------------------------------------------------------------


def worker(folder, *, options=None, **columns):
    make = functools.partial(load_explainer, folder / "model.keras", num_steps=STEPS, **(options or {}))
    return Rows(make, Columns(**columns))


def test_columns_of_numbers_stand_side_by_side_and_targets_come_from_a_column(folder, expected):
    names = ["f", "e", "d", "c", "b", "a"]
    batch = {**dict(zip(names, X.T)), "id": np.arange(ROWS), "label": np.arange(ROWS) % 3}
    found = worker(folder, inputs=names, targets="label", keep=["id"])(batch)
    explainer = load_explainer(folder / "model.keras", num_steps=STEPS)
    wanted = explainer.explain(X, np.arange(ROWS) % 3, progress=False)
    assert list(found) == ["id", "attributions", "prediction", "target", "delta"]
    assert_close(found["attributions"], wanted, 1e-6)
    np.testing.assert_array_equal(found["target"], batch["label"])


def test_lists_are_arrays_and_every_class_is_explained(folder):
    lists = np.empty(3, object)
    lists[:] = [row for row in X[:3]]
    found = worker(folder, targets="all", options={"tolerance": 0.1})({"x": lists})
    assert {name: a.shape for name, a in found.items()} == {
        "x": (3,),
        "attributions": (3, 3, 6),
        "prediction": (3, 3),
        "delta": (3, 3),
        "error": (3, 3),
    }


def test_several_inputs_have_attributions_of_their_own():
    def make():
        return Explainer(lambda inputs: inputs["a"][:, 0] * inputs["b"][:, 0], num_steps=4)

    batch = {"left": X[:4, :2], "right": X[:4, 2:]}
    found = Rows(make, Columns(inputs={"a": "left", "b": "right"}, keep=[]))(batch)
    half = batch["left"][:, 0] * batch["right"][:, 0] / 2
    for name in ("a", "b"):
        np.testing.assert_allclose(found[f"attributions_{name}"][:, 0], half, rtol=1e-5)
    assert "target" not in found


def test_a_batch_that_fails_names_its_rows(folder):
    batch = {"x": X[:12].copy(), "id": np.arange(100, 112)}
    batch["x"][5] = np.nan
    with pytest.raises(RuntimeError, match="the rows with id 100, 101, .*109 and 2 more .*NaN in row 5"):
        worker(folder, row_id="id")(batch)
    with pytest.raises(RuntimeError, match="a batch of 12 rows .*NaN in row 5"):
        worker(folder, inputs="x")(batch)


def test_a_batch_without_a_right_row_has_the_columns_of_others(folder):
    batch = {"x": np.full([2, 6], np.nan, "float32")}
    found = worker(folder, on_error="continue", options={"tolerance": 0.1})(batch)
    right = worker(folder, on_error="continue", options={"tolerance": 0.1})({"x": X[:2]})
    assert {k: (a.shape, a.dtype) for k, a in found.items()} == {
        k: (a.shape, a.dtype) for k, a in right.items()
    }
    assert np.isnan(found["attributions"]).all() and list(right["failure"]) == ["", ""]
    with pytest.raises(ValueError, match="targets is 7"):
        worker(folder, on_error="continue", targets=7)({"x": X[:2]})


@pytest.mark.skipif(
    tf.__version__.startswith("2.12."), reason="the safe mode of Keras 2.12 lets lambda layers through"
)
def test_files_with_code_of_their_own_are_loaded_when_they_are_trusted(tmp_path):
    model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Lambda(lambda x: 2 * x)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="(?s)safe"):
        load_explainer(tmp_path / "model.keras")
    explainer = load_explainer(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_allclose(explainer.explain(X[:2, :3], 0, progress=False)[:, 0], 2 * X[:2, 0], rtol=1e-5)


def test_a_saved_model_is_loaded_by_its_signature(tmp_path):
    module = tf.Module()
    module.run = tf.function(
        lambda x: {"y": x[:, 0] ** 2}, input_signature=[tf.TensorSpec([None, 3], name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), {"serving_default": module.run})
    found = load_explainer(tmp_path / "saved", "saliency").explain(X[:2, :3], progress=False)
    np.testing.assert_allclose(found[:, 0], 2 * np.abs(X[:2, 0]), rtol=1e-5)


# Columns, columns of the data set, and how the refusal begins.
REFUSED = [
    (dict(inputs="y"), ["x"], ValueError, "'y' is no column"),
    (dict(inputs={"a": ["x", "y"]}), ["x"], ValueError, "'y' is no column"),
    (dict(targets="y"), ["x"], ValueError, "'y' is no column"),
    (dict(row_id="y"), ["x"], ValueError, "'y' is no column"),
    (dict(keep=["y"]), ["x"], ValueError, "'y' is no column"),
    (dict(keep="x"), ["x"], TypeError, "keep is 'x', expected a list"),
    (dict(), ["x", "y"], ValueError, "inputs is None and the columns are 'x', 'y'"),
    (dict(inputs="x"), ["x", "target"], ValueError, "the data set has a column 'target'"),
    (dict(inputs=3), ["x"], TypeError, "inputs has a int"),
    (dict(baselines="mean"), ["x"], ValueError, "baselines is 'mean', expected numbers"),
    (dict(on_error="skip"), ["x"], ValueError, "on_error is 'skip'"),
]


@pytest.mark.parametrize("options, names, error, words", REFUSED, ids=range(len(REFUSED)))
def test_wrong_columns_are_refused(options, names, error, words):
    with pytest.raises(error, match=f"explain_dataset: {words}"):
        Columns(**options).check(names)


def test_wrong_arguments_are_refused(ray):
    table, make = ray.data.range(3), functools.partial(load_explainer, "there.keras")
    for options, error, words in (
        (dict(dataset=X), TypeError, "dataset is a ndarray"),
        (dict(make_explainer="there.keras"), TypeError, "make_explainer is a str"),
        (dict(make_explainer=Explainer(lambda x: x)), TypeError, "make_explainer is a Explainer"),
        (dict(batch_size=0), ValueError, "batch_size is 0"),
        (dict(batch_size=(1, 2)), ValueError, r"batch_size is \(1, 2\)"),
        (dict(concurrency=1.5), ValueError, "concurrency is 1.5"),
        (dict(concurrency=(2, 1)), ValueError, r"concurrency is \(2, 1\)"),
        (dict(inputs="x"), ValueError, "'x' is no column"),
    ):
        with pytest.raises(error, match=f"explain_dataset: {words}"):
            explain_dataset(**{"dataset": table, "make_explainer": make, **options})


def test_what_is_no_explainer_and_no_model_is_refused():
    with pytest.raises(TypeError, match="make_explainer returned a NoneType"):
        Rows(lambda: None, Columns())
    for path in ("there.keras", str(ROOT), __file__):
        with pytest.raises(ValueError, match="load_explainer: path is "):
            load_explainer(path)


def test_the_command_says_what_it_takes(capsys, folder):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    assert "maps" not in capsys.readouterr().err
    for given, words in ([["m", "r.txt", "o"], "rows is r.txt"], [["m", str(ROOT / "docs"), "o"], "rows is"]):
        with pytest.raises(SystemExit, match="2"):
            command.main(given)
        assert words in capsys.readouterr().err


def test_without_ray_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'ray\[data\]'"):
        explain_dataset(None, None)


def test_examples_in_docstrings_run():
    results = doctest.testmod(sys.modules["igtf.ray.dataset"], extraglobs={"tempfile": tempfile})
    assert results.attempted >= 6 and not results.failed

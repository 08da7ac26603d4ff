"""Pages that an Explainer writes: what it explains, what the model says, and what adds up."""

import doctest
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize

import igtf.explainer.pages
from igtf import Explainer

layers = tf.keras.layers
IMAGES = np.random.default_rng(0).random([5, 6, 4, 3]).astype(np.float32)
ELEMENT = r'<script type="application/json" id="([\w-]+)">(.*?)</script>'


def network(*last):
    stack = [layers.Input((6, 4, 3)), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(3), *last]
    return randomize(tf.keras.Sequential(stack))


def written(explainer, folder, *args, **options):
    page = explainer.page(*args, path=folder / "page.html", progress=False, **options)
    index = json.loads(dict(re.findall(ELEMENT, page.path.read_text("utf-8")))["index"])
    return index, index["rows"]


def column(rows, key):
    return np.array([[map_[key] for map_ in row["maps"]] for row in rows], float)


@pytest.mark.few(3)
@pytest.mark.parametrize("explained", ["all", None, "predicted", 1, [2, 0, 1, 1, 0]])
def test_it_shows_what_explain_returns_and_what_the_model_says(explained, tmp_path):
    model = network(layers.Softmax())
    explainer = Explainer(model, batch_size=2, logits=True)
    index, rows = written(
        explainer, tmp_path, IMAGES, [0, 1, 2, 0, 1], 0.5, explained, class_names=["a", "b", "c"]
    )
    maps, delta, error = explainer.explain(IMAGES, explained, 0.5, True, True, progress=False)
    scores = model(IMAGES).numpy()
    every = explained == "all"
    sums = maps.sum((2, 3, 4)) if every else maps.sum((1, 2, 3))[:, None]
    np.testing.assert_allclose(column(rows, "sum"), sums, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(column(rows, "delta"), np.reshape(delta, sums.shape), atol=1e-6)
    np.testing.assert_allclose(column(rows, "error"), np.reshape(error, sums.shape), rtol=1e-3)
    np.testing.assert_allclose([row["scores"] for row in rows], scores, rtol=1e-5)
    assert [row["truth"] for row in rows] == [0, 1, 2, 0, 1] and index["classes"] == ["a", "b", "c"]
    guesses = list(scores.argmax(1))
    wanted = {"all": [[0, 1, 2]] * 5, "1": [[1]] * 5, "[2, 0, 1, 1, 0]": [[2], [0], [1], [1], [0]]}
    assert [[m["class"] for m in row["maps"]] for row in rows] == wanted.get(
        str(explained), [[g] for g in guesses]
    )
    # The change of the logits that the maps are for.
    logits = tf.keras.Model(model.inputs[0], model.layers[-2].output)
    change = logits(IMAGES).numpy() - logits(np.full([1, 6, 4, 3], 0.5, np.float32)).numpy()
    classes = np.array([[m["class"] for m in row["maps"]] for row in rows])
    found = column(rows, "sum") - column(rows, "delta")
    np.testing.assert_allclose(found, np.take_along_axis(change, classes, 1), rtol=1e-3, atol=1e-4)


def test_batches_go_into_the_page_one_after_the_other(tmp_path, monkeypatch):
    explainer, seen = Explainer(network(), batch_size=2), []
    batches = explainer.explain_batches

    def watched(*args, **options):
        for batch in batches(*args, **options):
            # One more is there than samples of the batches before are written.
            seen.append(sum(1 for _ in tmp_path.glob("*.part")))
            yield batch

    monkeypatch.setattr(explainer, "explain_batches", watched)
    written(explainer, tmp_path, IMAGES)
    assert seen == [0, 1, 1]


def test_words_are_tokens_without_padding_and_still_add_up(tmp_path):
    stack = [
        layers.Input((6,), dtype="int32"),
        layers.Embedding(9, 4, name="words"),
        layers.Flatten(),
        layers.Dense(2),
    ]
    model = randomize(tf.keras.Sequential(stack))
    ids = np.int32([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]])
    tokens = [["a", "b", "c"], list("defghi")]
    explainer = Explainer(model, layer="words")
    with np.errstate(all="raise"):
        _, rows = written(explainer, tmp_path, ids, None, 4, "all", tokens, kind="text")
    assert [row["shape"] for row in rows] == [[3], [6]]
    maps = explainer.explain(ids, "all", 4, progress=False).sum(-1)
    np.testing.assert_allclose(
        column(rows, "sum"), [maps[0, :, :3].sum(-1), maps[1].sum(-1)], rtol=1e-4, atol=1e-6
    )
    change = (model(ids) - model(np.full([1, 6], 4))).numpy()
    np.testing.assert_allclose(column(rows, "sum") - column(rows, "delta"), change, rtol=1e-3, atol=1e-5)
    assert np.abs(maps[0, :, 3:]).max() > 1e-3  # padding had a part in it
    _, rows = written(explainer, tmp_path, ids, samples=tokens, kind="text")
    assert [len(row["maps"]) for row in rows] == [1, 1]


def test_methods_without_sums_or_errors_leave_them_out(tmp_path):
    model = network(layers.Softmax())
    for options, keys in [
        (dict(method="saliency"), set()),
        (dict(method="deeplift"), {"delta"}),
        (dict(reducer="mean"), {"error"}),  # the mean over channels does not sum to the change
        (dict(operator=lambda model, x, t: model(x)[:, 0] * model(x)[:, 1]), {"delta", "error"}),
    ]:
        index, rows = written(Explainer(model, **options), tmp_path, IMAGES)
        assert {"delta", "error"} & set(rows[0]["maps"][0]) == keys, options
        assert index["maps"] == ["output"]
        assert (rows[0]["maps"][0]["class"] is None) == ("operator" in options)


def test_one_output_is_a_value_or_the_probability_of_the_second_class(tmp_path):
    model = tf.keras.Sequential([layers.Input((4,)), layers.Dense(1, "sigmoid")])
    table = np.random.default_rng(1).normal(size=[3, 4]).astype(np.float32)
    options = dict(kind="table", feature_names=list("abcd"), labels=["x", "y", "z"], title="Three rows")
    index, rows = written(Explainer(randomize(model)), tmp_path, table, [0.5, 0.1, 0.9], **options)
    value = model(table).numpy()[:, 0]
    np.testing.assert_allclose([row["guess"] for row in rows], value, rtol=1e-6)
    assert index["classes"] is None and index["title"] == "Three rows" and rows[1]["label"] == "y"
    assert [row["truth"] for row in rows] == [0.5, 0.1, 0.9]
    index, rows = written(Explainer(model), tmp_path, table, class_names=["no", "yes"], kind="table")
    assert [row["guess"] for row in rows] == list((value > 0.5).astype(int)) and rows[0]["maps"][0][
        "class"
    ] == 1


def test_a_model_of_a_fixed_number_of_rows_and_one_of_several_outputs(tmp_path):
    fixed = tf.keras.Sequential([layers.Input(batch_shape=(2, 4)), layers.Dense(3)])
    table = np.random.default_rng(1).normal(size=[5, 4]).astype(np.float32)
    _, rows = written(Explainer(fixed), tmp_path, table, kind="table")
    np.testing.assert_allclose(
        [row["scores"] for row in rows], table @ fixed.weights[0].numpy(), rtol=1e-4, atol=1e-5
    )
    several = Explainer(lambda x: {"a": x[:, 0] ** 2, "b": x[:, 1]}, operator=lambda m, x, t: m(x)["a"])
    _, rows = written(several, tmp_path, table, kind="table")
    assert rows[0]["scores"] == [] and rows[0]["guess"] is None


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([tf.data.Dataset.from_tensor_slices(IMAGES).batch(2)], {}, TypeError, "page: inputs is a data set"),
        ([{"a": IMAGES}], {}, TypeError, "page: inputs is {'a'"),
        ([IMAGES, "all"], {}, TypeError, "explained='all'"),
        ([IMAGES], dict(kind="text"), ValueError, "samples is None for kind 'text'"),
        ([IMAGES], dict(kind="table"), TypeError, r"samples\[0\]"),
        ([IMAGES], dict(explained=7), ValueError, "targets is 7"),
        ([IMAGES[:0]], {}, ValueError, "have no rows"),
        ([IMAGES, [0, 1]], {}, ValueError, r"targets has shape \(2,\)"),
        ([IMAGES * np.nan], {}, ValueError, "holds NaN"),
        ([IMAGES[0]], {}, ValueError, "single row"),
        ([IMAGES], dict(nonsense=3), TypeError, "nonsense"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        Explainer(network()).page(*arguments, path=tmp_path / "page.html", progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_several_layers_are_refused(tmp_path):
    with pytest.raises(TypeError, match="expected one array"):
        Explainer(network(), layer=[1]).page(IMAGES, path=tmp_path / "page.html", progress=False)


def test_the_example_of_the_docstring_runs():
    results = doctest.testmod(igtf.explainer.pages, extraglobs={"Explainer": Explainer})
    assert results.attempted >= 3 and not results.failed

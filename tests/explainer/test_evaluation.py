"""Explainer.evaluate: the scores of the graph builders, batch by batch, and what is said of them."""

import doctest
import importlib

import explained
import numpy as np
import pytest
import tensorflow as tf
from explained import CLASSES, IMAGES, X, classifier, image_model
from reference import as_graph, assert_close
from scipy import stats

import igtf as ig
from igtf import Explainer
from igtf.explainer.comparison import bootstrap, rank_correlation
from igtf.explainer.evaluation import Evaluation

METHODS = {
    "integrated_gradients": lambda ys, xs, b, w: ig.integrated_gradients(ys, xs, b, grad_ys=w),
    "occlusion": lambda ys, xs, b, w: ig.occlusion(ys, xs, baseline=b, grad_ys=w),
    "saliency": lambda ys, xs, b, w: ig.saliency(ys, xs, w),
}
METRICS = {
    "deletion": lambda ys, xs, a, b, w: ig.deletion(ys, xs, a, b, grad_ys=w),
    "insertion": lambda ys, xs, a, b, w: ig.insertion(ys, xs, a, b, grad_ys=w),
    "infidelity": lambda ys, xs, a, b, w: ig.infidelity(ys, xs, a, baselines=b, seed=4, grad_ys=w),
    "mu_fidelity": lambda ys, xs, a, b, w: ig.mu_fidelity(ys, xs, a, baselines=b, seed=4, grad_ys=w),
    "sparseness": lambda ys, xs, a, b, w: ig.sparseness(a),
}


def judged(model, x, classes, start, **options):
    return Explainer(model, batch_size=4, **options).evaluate(
        x, classes, start, methods=list(METHODS), metrics=list(METRICS), seed=4, progress=False
    )


STARTS = {"zeros": None, "a number": 0.3, "a row": np.ones([1, 6], np.float32), "rows": 0.1 * X}


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(start, id=name, marks=[] if name == "rows" else [pytest.mark.slow])
        for name, start in STARTS.items()
    ],
)
def test_scores_are_those_of_the_builders(start):
    model = classifier()
    found = judged(model, X, CLASSES, start)

    def build(x):
        ys, weights = model(x, training=False), tf.one_hot(CLASSES, 3)
        return {
            metric: {
                name: score(ys, x, method(ys, x, start, weights), start, weights)
                for name, method in METHODS.items()
            }
            for metric, score in METRICS.items()
        }

    wanted = as_graph(build, [X], True)
    for metric in METRICS:
        for name in METHODS:
            assert_close(found.scores[metric][name], wanted[metric][name], 2e-4)
    assert found.curves["deletion"]["occlusion"].shape == (len(X), 7)
    assert set(found.curves) == {"deletion", "insertion"}
    assert_close(
        found.scores["deletion"]["occlusion"],
        (found.curves["deletion"]["occlusion"] @ [0.5, 1, 1, 1, 1, 1, 0.5]) / 6,
        1e-5,
    )


def test_data_sets_are_read_once_so_that_rows_belong_together():
    model, seen = classifier(), []

    def counted():
        for begin in range(0, len(X), 4):
            seen.append(begin)
            yield X[begin : begin + 4], CLASSES[begin : begin + 4]

    signature = (tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int32))
    data = tf.data.Dataset.from_generator(counted, output_signature=signature)
    options = dict(methods=["saliency", "occlusion"], metrics=["deletion"], progress=False)
    found = Explainer(model).evaluate(data, **options)
    assert seen == [0, 4, 8]
    wanted = Explainer(model).evaluate(X, CLASSES, **options)
    for name in ("saliency", "occlusion"):
        assert_close(found.scores["deletion"][name], wanted.scores["deletion"][name], 1e-5)


def test_images_are_judged_by_pixels_with_a_reducer():
    model = image_model()
    found = Explainer(model, "gradient_times_input", reducer="sum").evaluate(
        IMAGES, 0, metrics=["deletion"], progress=False
    )
    assert found.curves["deletion"]["gradient_times_input"].shape == (len(IMAGES), 21)

    def build(x):
        ys = model(x, training=False)[:, 0]
        return ig.deletion(ys, x, tf.reduce_sum(ig.gradient_times_input(ys, x), 3, keepdims=True))

    assert_close(found.scores["deletion"]["gradient_times_input"], as_graph(build, [IMAGES], True), 1e-4)


def test_a_hidden_layer_is_judged_at_the_layer():
    model = classifier()
    found = Explainer(model, layer="hidden").evaluate(X, 1, metrics=["insertion"], progress=False)
    assert found.curves["insertion"]["integrated_gradients"].shape == (len(X), 6)
    curve = found.curves["insertion"]["integrated_gradients"]
    assert_close(curve[:, -1], model.predict(X, verbose=0)[:, 1], 1e-5)


def test_several_inputs_and_ids_are_judged():
    model = explained.two_branches()
    inputs = [X[:, :3], X[:, 3:5]]
    found = Explainer(model, "occlusion").evaluate(
        inputs, {"kind": 1}, metrics=["deletion", "mu_fidelity"], progress=False
    )
    assert found.curves["deletion"]["occlusion"].shape == (len(X), 6)
    table = tf.constant(np.random.default_rng(0).normal(size=(9, 4)), tf.float32)
    ids = np.random.default_rng(1).integers(0, 9, [5, 7])
    worth = lambda ids: tf.reduce_sum(tf.tanh(tf.reduce_sum(tf.gather(table, ids), 1)), 1)  # noqa: E731
    found = Explainer(worth, "occlusion").evaluate(ids, methods=["occlusion", "random"], progress=False)
    assert np.isfinite(found.scores["insertion"]["random"]).all()


def test_labels_options_functions_and_the_control():
    model = classifier()

    def backwards(ys, xs, grad_ys):
        return -ig.gradient_times_input(ys, xs, grad_ys)

    methods = {
        "10 steps": ("integrated_gradients", {"num_steps": 10}),
        "its own": "integrated_gradients",
        "backwards": backwards,
        "forwards": "gradient_times_input",
        "drawn": "random",
    }
    metrics = {
        "from ones": ("deletion", {"baselines": 1.0, "num_steps": 3}),
        "average_drop_increase": "average_drop_increase",
        "again": ("average_drop_increase", {"baselines": 0.5}),
        "sensitivity_max": ("sensitivity_max", {"num_samples": 2}),
        "hits": ("pointing_game", {"mask": [1, 1, 0, 0, 0, 0]}),
    }
    found = Explainer(model, num_steps=100).evaluate(X, methods=methods, metrics=metrics, progress=False)
    assert list(found.scores) == [
        *("from ones", "average_drop", "average_increase", "again: drop", "again: increase"),
        *("sensitivity_max", "hits"),
    ]
    assert found.better["from ones"] == found.better["again: drop"] == "lower"
    assert all(list(rows) == list(methods) for rows in found.scores.values())
    assert found.curves["from ones"]["drawn"].shape == (len(X), 4)
    one, other = (found.scores["sensitivity_max"][name] for name in ("10 steps", "its own"))
    assert np.abs(one - other).max() > 0
    forwards, backwards = (found.curves["from ones"][name] for name in ("forwards", "backwards"))
    assert_close(forwards[:, [0, -1]], backwards[:, [0, -1]], 1e-5)
    assert np.abs(forwards - backwards).max() > 0.01
    assert set(np.unique(found.scores["hits"]["its own"])) <= {0.0, 1.0}


def test_seeds_make_the_same_scores_whatever_the_batches():
    options = dict(methods=["saliency"], metrics=["infidelity", "mu_fidelity"], progress=False)
    small, large = (Explainer(classifier(), batch_size=n).evaluate(X, **options).scores for n in (3, 32))
    for metric in small:
        assert_close(small[metric]["saliency"], large[metric]["saliency"], 1e-4)
    other = Explainer(classifier()).evaluate(X, seed=1, **options).scores
    assert np.abs(other["infidelity"]["saliency"] - large["infidelity"]["saliency"]).max() > 0


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(methods=["salience"]), ValueError, "method is 'salience', expected .*'saliency'"),
        (dict(methods="grad_cam"), ValueError, "methods have 'grad_cam', expected methods that explain"),
        (dict(methods=["expected_gradients"]), ValueError, "lacks 'num_samples'"),
        (dict(methods=["saliency", "saliency"]), ValueError, "expected different names"),
        (dict(methods=[]), TypeError, r"methods is \[\], expected a list of names"),
        (dict(methods=[3]), TypeError, "methods has 3 for 3, expected a name"),
        (dict(methods={"a": ("saliency", {"steps": 1})}), ValueError, "options have 'steps'"),
        (dict(metrics=["fidelity"]), ValueError, "metric is 'fidelity', expected .*'infidelity'"),
        (dict(metrics=[("deletion", {"steps": 3})]), ValueError, "deletion have 'steps', .*'num_steps'"),
        (dict(metrics=["pointing_game"]), ValueError, "pointing_game has no mask"),
        (dict(targets="all"), ValueError, "targets is 'all', expected one output"),
    ],
)
def test_what_cannot_be_judged_is_refused(options, error, message):
    with pytest.raises(error, match=f"^Explainer.*{message}"):
        Explainer(classifier()).evaluate(X, progress=False, **options)


def test_the_explainer_explains_as_before():
    explainer = Explainer(classifier(), "saliency")
    before = explainer.explain(X, progress=False)
    explainer.evaluate(X, metrics=["sparseness"], progress=False)
    np.testing.assert_array_equal(explainer.explain(X, progress=False), before)


# What is said of them ---------------------------------------------------------------------------------


def scores(rows=200, shift=0.1, seed=0):
    draws = np.random.default_rng(seed)
    a = draws.normal(size=rows)
    near = a + 0.05 * draws.normal(size=rows)
    far = a + shift + 0.05 * draws.normal(size=rows)
    return Evaluation({"deletion": {"a": a, "near": near, "far": far}}, {}, {"deletion": "lower"})


def test_a_paired_interval_tells_apart_what_two_means_do_not():
    found = scores().differences()
    pairs = list(zip(found["method"], found["other"]))
    assert pairs == [("a", "near"), ("a", "far"), ("near", "far")]
    assert found["low"][0] < 0 < found["high"][0]
    assert found["high"][1] < 0 and found["high"][2] < 0
    # As the normal approximation has it.
    data = scores().scores["deletion"]
    apart = data["a"] - data["far"]
    wide = stats.sem(apart) * stats.norm.ppf(0.975)
    np.testing.assert_allclose(found["low"][1], apart.mean() - wide, atol=0.1 * wide)
    np.testing.assert_allclose(found["high"][1], apart.mean() + wide, atol=0.1 * wide)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).exponential(size=(60, 1))
        low, high = bootstrap(values, 0.9, 400, seed)
        held += low[0] <= 1 <= high[0]
    assert 0.82 < held / 200 < 0.96


def test_rows_without_a_score_are_left_out():
    found = Evaluation(
        {"m": {"a": np.array([1.0, np.nan, 3.0]), "b": np.array([0.0, 0.0, np.nan])}}, {}, {"m": None}
    )
    table = found.table()
    assert table["mean"].tolist() == [2, 0] and table["rows"].tolist() == [2, 2]
    assert found.differences()["rows"].tolist() == [1]
    assert found.differences()["difference"].tolist() == [1]
    nothing = Evaluation({"m": {"a": np.array([np.nan]), "b": np.array([1.0])}}, {}, {})
    assert np.isnan(nothing.differences()["low"]).all() and np.isnan(nothing.table()["mean"][0])


def test_markdown_marks_a_winner_only_where_there_is_one():
    text = scores().markdown()
    assert "**" not in text.split("\n\n")[0] and "deletion \u2193" in text
    found = scores().scores["deletion"]
    best = Evaluation({"deletion": {"a": found["a"], "far": found["far"]}}, {}, {"deletion": "lower"})
    lines = best.markdown().splitlines()
    assert lines[2].startswith("| a | **") and "**" not in lines[3]
    worst = Evaluation(best.scores, {}, {"deletion": "higher"}).markdown().splitlines()
    assert "**" not in worst[2] and worst[3].startswith("| far | **")
    assert best.markdown() == best._repr_markdown_() and "200 rows" in best.markdown()


def test_it_draws_itself():
    figure = scores().plot()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "near", "far"]


def test_ranks_correlate_as_scipy_says():
    draws = np.random.default_rng(0)
    a, b = draws.normal(size=(4, 30)), draws.integers(0, 5, [4, 30])
    wanted = [stats.spearmanr(*pair)[0] for pair in zip(a, b)]
    np.testing.assert_allclose(rank_correlation(a, b), wanted, rtol=1e-12)
    assert np.isnan(rank_correlation(a[:1], np.ones([1, 30])))


@pytest.mark.parametrize("options", [dict(confidence=0), dict(confidence=1.5), dict(resamples=0)])
def test_intervals_of_nothing_are_refused(options):
    with pytest.raises(ValueError, match=f"^Evaluation: {next(iter(options))} is"):
        scores().differences(**options)


@pytest.mark.parametrize("room", ["explainer.trials", "explainer.evaluation"])
def test_the_examples_of_the_docstrings_run(room):
    names = {"Explainer": Explainer, "np": np, "tf": tf}
    results = doctest.testmod(importlib.import_module(f"igtf.{room}"), extraglobs=names)
    assert results.attempted and not results.failed

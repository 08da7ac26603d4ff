"""Arrays and data sets as batches, and their baselines."""

import numpy as np
import pytest
import tensorflow as tf
from explained import CLASSES, ROWS, SERIES, X, by_hand, classifier, explain, two_branches
from reference import assert_close

from igtf import Explainer


class TestBaselines:
    def test_forms(self):
        model = classifier()
        one, each = X[:1] + 1, X[::-1].copy()
        made = Explainer(model, batch_size=4)

        def ours(baselines, x=X):
            return made.explain(x, CLASSES, baselines, progress=False)

        a, b = by_hand(model, X, baselines=one), by_hand(model, X, baselines=each)
        assert_close(ours(one), a, 1e-5)
        assert_close(ours(one[0].tolist()), a, 1e-5)
        assert_close(ours(each), b, 1e-5)
        assert_close(ours(0.5), by_hand(model, X, baselines=0.5), 1e-5)
        assert_close(ours(np.stack([one, 2 * one])), (a + by_hand(model, X, baselines=2 * one)) / 2, 1e-5)
        assert_close(ours(np.stack([each, one + 0 * each])), (a + b) / 2, 1e-5)
        assert_close(ours(lambda batch: 0.5 * batch), by_hand(model, X, baselines=0.5 * X), 1e-5)
        deltas = made.explain(X, CLASSES, np.stack([one, 2 * one]), return_delta=True, progress=False)[1]
        assert abs(deltas).max() < 1e-5

    def test_of_several_inputs(self):
        model, inputs = two_branches(), {"left": X[:, :3], "right": X[:, 3:5]}
        whole = explain(model, inputs, targets={"size": None}, baselines={"left": None, "right": 1.0})
        parts = explain(
            model,
            inputs,
            targets={"size": None},
            baselines={"left": 0, "right": np.ones([2, 1, 2])},
        )
        for name in inputs:
            assert_close(whole[name], parts[name], 1e-5)
        with pytest.raises(ValueError, match="baselines is .*expected a scalar for all or the structure"):
            explain(model, inputs, targets={"size": None}, baselines={"left": 0})

    @pytest.mark.few(4)
    @pytest.mark.parametrize(
        "name", ["lists", "tuples", "tensors", "stacks", "function", "mixed", "nested lists"]
    )
    def test_of_inputs_of_different_shapes_in_any_form(self, name):
        a, b = X[:, :3], SERIES
        forms = {
            "lists": ([a[:1], b[:1]], [(a[:1], b[:1])]),
            "tuples": ((a[::-1], b[:1]), [(a[::-1], b[:1])]),
            "tensors": ([tf.constant(a[:1]), tf.constant(b)], [(a[:1], b)]),
            "stacks": ([np.stack([a, a * 0]), b[:2][:, None]], [(a, b[:1]), (a * 0, b[1:2])]),
            "function": (lambda rows: [rows[0] * 0.5, None], [(a * 0.5, b * 0)]),
            "mixed": ([None, 0.5], [(a * 0, b * 0 + 0.5)]),
            "nested lists": ([a[0].tolist(), b[0].tolist()], [(a[:1], b[:1])]),
        }
        baselines, starts = forms[name]

        def model(a, b):
            return tf.reduce_sum(a, 1) * tf.reduce_sum(b * b, [1, 2])

        def f(a, b):
            a, b = np.broadcast_to(a, (ROWS, 3)), np.broadcast_to(b, SERIES.shape)
            return a.astype(np.float64).sum(1) * (b.astype(np.float64) ** 2).sum((1, 2))

        result = explain(model, [a, b], baselines=baselines)
        total = result[0].sum(1) + result[1].sum((1, 2))
        assert_close(total, np.mean([f(a, b) - f(*start) for start in starts], 0), 1e-4)

    def test_by_name_are_over_all_rows(self):
        def model(x):
            return x[:, 0] * x[:, 1] ** 2

        rows = X[:, :2].copy()
        rows[3, 0] = np.nan
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(4)
        known = rows.astype(np.float64)
        arrays = {
            "zeros": np.zeros((1, 2)),
            "mean": np.nanmean(known, 0, keepdims=True),
            "min": np.nanmin(known, 0, keepdims=True),
            "max": np.nanmax(known, 0, keepdims=True),
        }
        for name, array in arrays.items():
            expected = explain(model, rows, baselines=array, allow_nan=True)
            for inputs in (rows, batches):
                np.testing.assert_allclose(
                    explain(model, inputs, baselines=name, allow_nan=True), expected, atol=1e-5
                )
        pairs = explain(lambda a, b: model(a) * model(b), [X, X[::-1]], baselines=["mean", 0.5])
        same = explain(lambda a, b: model(a) * model(b), [X, X[::-1]], baselines=[X.mean(0), np.full(6, 0.5)])
        assert_close(pairs[0], same[0], 1e-4)
        each = explain(model, X, baselines=lambda batch: "mean", batch_size=ROWS)
        assert_close(each, explain(model, X, baselines="mean"), 1e-5)
        with pytest.raises(ValueError, match="baselines is 'maen', expected .*near 'mean'.*function"):
            explain(model, X, baselines="maen")
        endless = Explainer(model).explain_batches
        with pytest.raises(ValueError, match="data set without an end, expected one that can be read twice"):
            endless(batches.repeat(), baselines="mean")

    @pytest.mark.parametrize("baselines", [np.zeros((5, 6)), np.zeros((1, 7)), np.zeros((2, 3, 6))])
    def test_that_do_not_fit_are_refused(self, baselines):
        with pytest.raises(
            ValueError, match="baselines have shape .*expected a scalar, one row, one for each"
        ):
            explain(classifier(), X, baselines=baselines)

    def test_where_they_have_no_meaning_or_are_missing(self):
        with pytest.raises(ValueError, match="given to saliency, expected None"):
            explain(classifier(), X, method="saliency", baselines=0)
        with pytest.raises(ValueError, match="expected the data set that expected_gradients draws from"):
            explain(classifier(), X, {"num_samples": 2}, method="expected_gradients")


class TestBatches:
    def test_one_trace_for_all_sizes_and_calls(self):
        made = Explainer(classifier(), batch_size=4)
        whole = made.explain(X, CLASSES, progress=False)
        parts = list(made.explain_batches(X, CLASSES, progress=False))
        assert [len(part) for part in parts] == [4, 4, 3]
        assert_close(np.concatenate(parts), whole, 1e-6)
        made.explain(X[:1], 2, progress=False)
        made.explain(X.astype(np.float64), CLASSES.astype(np.int32), progress=False)
        assert made.traces == 1
        made.explain(X, "all", progress=False)
        assert made.traces == 2

    def test_data_sets_of_known_and_unknown_length(self):
        model = classifier()
        made = Explainer(model)
        pairs = tf.data.Dataset.from_tensor_slices((X, CLASSES))
        expected = by_hand(model, X)
        for batches in (pairs.batch(4), pairs.filter(lambda x, y: True).batch(4)):
            assert_close(made.explain(batches, progress=False), expected, 1e-5)
        assert made.traces == 1
        alone = pairs.map(lambda x, y: x).batch(5)
        predicted = made.explain(X, progress=False)
        assert_close(made.explain(alone, progress=False), predicted, 1e-5)
        assert_close(made.explain(pairs.batch(4), "predicted", progress=False), predicted, 1e-5)
        assert_close(
            made.explain(alone, baselines=0.5, targets=1, progress=False),
            made.explain(X, 1, 0.5, progress=False),
            1e-5,
        )

    def test_data_sets_of_branches(self):
        model, inputs = two_branches(), {"left": X[:, :3], "right": X[:, 3:5]}
        expected = explain(model, inputs, targets={"kind": CLASSES % 2})
        batches = tf.data.Dataset.from_tensor_slices((inputs, {"kind": CLASSES % 2})).batch(4)
        result = explain(model, batches)
        for name in inputs:
            assert_close(result[name], expected[name], 1e-5)

    def test_sequences_of_changing_length_are_one_trace(self):
        def model(x):
            return tf.reduce_sum(x**2, axis=[1, 2])

        rows = [np.ones((length, 2), np.float32) for length in (2, 3, 5, 4)]
        batches = tf.data.Dataset.from_generator(
            lambda: rows, output_signature=tf.TensorSpec([None, 2])
        ).padded_batch(2)
        made = Explainer(model)
        parts = list(made.explain_batches(batches, progress=False))
        assert [part.shape for part in parts] == [(2, 3, 2), (2, 5, 2)] and made.traces == 1

    def test_batches_of_different_lengths_come_as_a_list(self):
        rows = [np.full((length, 2), length, np.float32) for length in (2, 3, 5, 4)]
        batches = tf.data.Dataset.from_generator(
            lambda: rows, output_signature=tf.TensorSpec([None, 2])
        ).padded_batch(2)
        square = lambda x: tf.reduce_sum(x**2, axis=[1, 2])  # noqa: E731
        for part, batch in zip(explain(square, batches), batches, strict=True):
            assert_close(part, batch.numpy() ** 2, 1e-4)
        parts = explain(square, batches, return_delta=True)
        assert [delta.shape for _, delta in parts] == [(2,), (2,)]
        with pytest.raises(ValueError, match=r"'mean' and rows of inputs have shapes \(3, 2\) and \(5, 2\)"):
            explain(square, batches, baselines="mean")

    def test_an_endless_data_set_is_refused_and_streams(self):
        batches = tf.data.Dataset.from_tensor_slices(X).repeat().batch(4)
        with pytest.raises(ValueError, match="without an end, expected.*explain_batches"):
            explain(classifier(), batches)
        stream = Explainer(classifier()).explain_batches(batches, progress=False)
        assert next(stream).shape == next(stream).shape == (4, 6)

    @pytest.mark.parametrize(
        "inputs, targets, message",
        [
            (tf.data.Dataset.from_tensor_slices(X), None, r"shape \(6,\).*expected batches.*batch\(4\)"),
            (tf.data.Dataset.from_tensor_slices(X).batch(4), CLASSES, "an array beside a data set.*Zip"),
            (tf.data.Dataset.from_tensor_slices(X).batch(4).take(0), None, "without batches"),
        ],
    )
    def test_data_sets_that_do_not_fit_are_refused(self, inputs, targets, message):
        with pytest.raises(ValueError, match=message):
            explain(classifier(), inputs, targets=targets)

    def test_a_data_set_without_targets_where_they_are_needed(self):
        batches = tf.data.Dataset.from_tensor_slices(X).batch(4)

        def operator(model, x, targets):
            return tf.reduce_sum(model(x) * targets, 1)

        with pytest.raises(ValueError, match="targets is None .or the data set has none., expected"):
            explain(classifier(), batches, operator=operator)
        pairs = tf.data.Dataset.from_tensor_slices({"left": X[:, :3], "right": X[:, 3:5]}).batch(4)
        with pytest.raises(ValueError, match="targets is None.*2 outputs, expected a dict"):
            explain(two_branches(), pairs)

    def test_progress_is_shown_unless_it_is_not_wanted(self, capsys):
        made = Explainer(classifier(), batch_size=4)
        made.explain(X, progress=False)
        assert capsys.readouterr().out == ""
        made.explain(X)
        made.explain(tf.data.Dataset.from_tensor_slices(X).filter(lambda x: True).batch(4))
        shown = capsys.readouterr().out
        assert "3/3" in shown and "Unknown" in shown

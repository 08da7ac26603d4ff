"""Ready-made operators: equal to brute force in float64, what is chosen at the input held along the path."""

import doctest
import importlib

import numpy as np
import pytest
import tensorflow as tf

from igtf import Explainer
from igtf.explainer import operators

RNG = np.random.RandomState(3)
B, F, A, C, H = 4, 5, 6, 3, 7
X = 2 * RNG.normal(size=(B, F))
START = RNG.normal(size=(1, F))
KERNEL = RNG.normal(size=(F, H))
OF_BOXES, OF_SCORES, OF_CHANCES = (RNG.normal(size=(H, n)) for n in (4 * A, A * C, A))
OF_PIXELS = RNG.normal(size=(H, 2 * 3 * C))
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
OPTIONS = {"method": "gausslegendre", "num_steps": 24}


def hidden(x):
    return tf.tanh(x @ KERNEL)


def detector(x):
    low, size = tf.split(tf.reshape(hidden(x) @ OF_BOXES, [-1, A, 4]), 2, axis=2)
    chances = tf.sigmoid(hidden(x) @ OF_CHANCES)
    scores = tf.reshape(hidden(x) @ OF_SCORES, [-1, A, C])
    return {"boxes": tf.concat([low, low + tf.exp(size)], 2), "scores": scores, "objectness": chances}


def centred(x):
    found = detector(x)
    low, high = tf.split(found["boxes"], 2, axis=2)
    return tf.concat([low + (high - low) / 2, high - low], 2), found["scores"]


def pixels(x):
    return tf.reshape(hidden(x) @ OF_PIXELS, [-1, 2, 3, C])


def brute_force(function):
    """Integrated gradients of `function(x)` `[B]`, whose choices are fixed, at the same 24 points."""
    total = np.zeros_like(X)
    for node, weight in zip(NODES, WEIGHTS):
        point = tf.constant(START + (node + 1) / 2 * (X - START))
        with tf.GradientTape() as tape:
            tape.watch(point)
            y = function(point)
        total += weight / 2 * tape.gradient(y, point).numpy()
    return total * (X - START)


def explain(model, operator, targets=None, **options):
    explainer = Explainer(model, operator=operator, batch_size=3, method_options=OPTIONS, **options)
    return explainer.explain(X, targets, START, progress=False)


def overlaps(boxes, given):
    low, high = np.maximum(boxes[..., :2], given[:, None, :2]), np.minimum(boxes[..., 2:], given[:, None, 2:])
    common = np.maximum(high - low, 0).prod(-1)
    sizes = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (boxes, given[:, None])]
    return common / (sizes[0] + sizes[1] - common)


ROWS = np.arange(B)
AT_X = {name: part.numpy() for name, part in detector(X).items()}
BEST = (AT_X["scores"].max(2) * AT_X["objectness"]).argmax(1)
NUMBERS = np.array([5, 0, 2, 2])
SIZES = AT_X["boxes"][ROWS, NUMBERS, 2:] - AT_X["boxes"][ROWS, NUMBERS, :2]
GIVEN = AT_X["boxes"][ROWS, NUMBERS] + np.tile(0.1 * SIZES, 2)


class TestBox:
    @pytest.mark.few(3)
    @pytest.mark.parametrize(
        "targets, where, column",
        [
            (None, BEST, None),
            (NUMBERS, NUMBERS, None),
            (GIVEN, overlaps(AT_X["boxes"], GIVEN).argmax(1), None),
            ({"box": NUMBERS, "class": [2, 0, 1, 1]}, NUMBERS, [2, 0, 1, 1]),
            ({"class": 1}, BEST, [1] * B),
        ],
        ids=["the best", "by number", "by place", "with a class", "the best, of a class"],
    )
    def test_the_score_of_a_class_of_it(self, targets, where, column):
        column = AT_X["scores"][ROWS, where].argmax(1) if column is None else column
        chosen = np.stack([ROWS, where, column], 1)
        expected = brute_force(lambda x: tf.gather_nd(detector(x)["scores"], chosen))
        np.testing.assert_allclose(explain(detector, "box", targets), expected, atol=1e-9)

    def test_choices_differ_along_the_path_and_are_held(self):
        """Else this file would test nothing."""
        before = {name: part.numpy() for name, part in detector(START).items()}
        assert ((before["scores"].max(2) * before["objectness"]).argmax(1) != BEST).any()
        assert (overlaps(before["boxes"], GIVEN).argmax(1) != NUMBERS).any()
        moving = brute_force(lambda x: tf.reduce_max(detector(x)["scores"], [1, 2]))
        assert np.abs(explain(detector, "box") - moving).max() > 0.1

    @pytest.mark.parametrize(
        "explained, name, column", [("objectness", "objectness", ()), (2, "boxes", (2,))]
    )
    def test_objectness_and_coordinates(self, explained, name, column):
        chosen = [(row, number, *column) for row, number in zip(ROWS, NUMBERS)]
        expected = brute_force(lambda x: tf.gather_nd(detector(x)[name], chosen))
        np.testing.assert_allclose(explain(detector, operators.box(explained), NUMBERS), expected, atol=1e-9)

    def test_outputs_of_other_forms(self):
        expected = explain(detector, "box", GIVEN)

        def one(x):
            found = detector(x)
            return tf.concat([found["boxes"], found["objectness"][..., None], found["scores"]], 2)

        np.testing.assert_allclose(explain(one, "box", GIVEN), expected, atol=1e-12)

        def three(x):
            found = detector(x)
            return found["boxes"], found["scores"][..., 0], found["objectness"][..., None]

        first = explain(detector, "box", {"box": NUMBERS, "class": 0})
        np.testing.assert_allclose(explain(three, "box", NUMBERS), first, atol=1e-12)
        middles = np.concatenate(
            [GIVEN[:, :2] + (GIVEN[:, 2:] - GIVEN[:, :2]) / 2, GIVEN[:, 2:] - GIVEN[:, :2]], 1
        )
        found = explain(centred, operators.box(form="center"), middles)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_an_explanation_has_the_outputs_of_the_box(self):
        found = Explainer(detector, operator="box")(X, NUMBERS, START, progress=False)
        np.testing.assert_allclose(found.outputs, AT_X["scores"][ROWS, NUMBERS].max(1), rtol=1e-6)
        np.testing.assert_allclose(found.values.sum(1), found.outputs - found.base_values, atol=1e-3)

    def test_methods_without_gradients_hold_the_box_too(self):
        found = Explainer(detector, "occlusion", operator="box", window_shape=(1,)).explain(
            X, NUMBERS, 0.0, progress=False
        )
        column = AT_X["scores"][ROWS, NUMBERS].argmax(1)
        for f in range(F):
            without = detector(np.where(np.arange(F) == f, 0, X))["scores"].numpy()[ROWS, NUMBERS, column]
            np.testing.assert_allclose(
                found[:, f], AT_X["scores"][ROWS, NUMBERS, column] - without, atol=1e-9
            )


class TestSegment:
    def test_the_mean_of_a_class_where_it_is_predicted_at_the_input(self):
        classes = pixels(X).numpy()[:, 1, 1].argmax(1)
        mask = pixels(X).numpy().argmax(3) == classes[:, None, None]
        assert len({tuple(each.ravel()) for each in mask}) > 1

        def mean(x):
            chosen = tf.gather(pixels(x), tf.tile(classes[:, None, None], [1, 2, 3]), axis=3, batch_dims=3)
            return tf.reduce_sum(chosen * mask, [1, 2]) / mask.sum((1, 2))

        np.testing.assert_allclose(explain(pixels, "segment", classes), brute_force(mean), atol=1e-9)

    def test_in_a_mask_or_by_weights(self):
        weights = RNG.uniform(size=(B, 2, 3))
        for mask in (weights > 0.5, weights):
            expected = brute_force(
                lambda x, m=mask: tf.reduce_sum(pixels(x)[..., 2] * m, [1, 2]) / m.sum((1, 2))
            )
            found = explain(pixels, "segment", {"class": 2, "mask": mask})
            np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_of_one_output_a_mask_is_enough(self):
        mask = np.ones([B, 2, 3, 1])
        expected = brute_force(lambda x: tf.reduce_mean(pixels(x)[..., 0], [1, 2]))
        found = explain(lambda x: pixels(x)[..., :1], "segment", {"mask": mask})
        np.testing.assert_allclose(found, expected, atol=1e-9)


class TestRegression:
    @pytest.mark.parametrize("error, function", [("absolute", tf.abs), ("squared", tf.square)])
    def test_the_mean_error_over_the_outputs(self, error, function):
        measured = 40 + RNG.normal(size=(B, H))  # out of reach, so that nothing has a kink
        expected = brute_force(lambda x: tf.reduce_mean(function(hidden(x) - measured), 1))
        np.testing.assert_allclose(
            explain(hidden, operators.regression(error), measured), expected, atol=1e-9
        )

    def test_one_output_in_a_column_or_alone(self):
        measured = np.full(B, 9.0)
        expected = brute_force(lambda x: tf.abs(hidden(x)[:, 0] - 9))
        for model, targets in [
            (lambda x: hidden(x)[:, :1], measured),
            (lambda x: hidden(x)[:, 0], measured[:, None]),
        ]:
            np.testing.assert_allclose(explain(model, "regression", targets), expected, atol=1e-9)


class TestDistance:
    OTHERS = RNG.normal(size=(B, F)) - 4

    @pytest.mark.parametrize("metric", ["euclidean", "squared", "cosine"])
    def test_to_references_which_are_inputs_or_embeddings(self, metric):
        others = hidden(self.OTHERS).numpy()

        def far(x):
            e = hidden(x)
            if metric == "cosine":
                return 1 - tf.reduce_sum(e * others, 1) / (
                    tf.norm(e, axis=1) * np.linalg.norm(others, axis=1)
                )
            squares = tf.reduce_sum((e - others) ** 2, 1)
            return squares if metric == "squared" else tf.sqrt(squares)

        expected = brute_force(far)
        for targets, embedded in [(self.OTHERS, False), (others, True)]:
            found = explain(hidden, operators.distance(metric, embedded), targets)
            np.testing.assert_allclose(found, expected, atol=1e-8)

    def test_of_models_with_several_inputs(self):
        def model(x):
            return tf.tanh(x["a"] @ KERNEL[:2] + x["b"] @ KERNEL[2:])

        parts, others, start = ({"a": part[:, :2], "b": part[:, 2:]} for part in (X, self.OTHERS, START))
        made = Explainer(model, operator="distance", method_options=OPTIONS)
        found = made.explain(parts, others, start, progress=False)
        expected = explain(hidden, "distance", self.OTHERS)
        np.testing.assert_allclose(np.concatenate([found["a"], found["b"]], 1), expected, atol=1e-12)


class TestReconstruction:
    @pytest.mark.parametrize("error, function", [("squared", tf.square), ("absolute", tf.abs)])
    def test_inputs_count_as_what_is_read_and_as_what_is_to_be_rebuilt(self, error, function):
        decoder = RNG.normal(size=(H, F))
        shift = 100.0 * (error == "absolute")  # no kinks

        def rebuilt(x):
            return hidden(x) @ decoder + shift

        expected = brute_force(lambda x: tf.reduce_mean(function(rebuilt(x) - x), 1))
        found = explain(rebuilt, operators.reconstruction(error))
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_functions_may_return_outputs_and_weights_that_are_held():
    def best(model, inputs, targets):
        ys = model(inputs)
        return ys, tf.one_hot(tf.argmax(ys, 1), H, dtype=ys.dtype)

    column = hidden(X).numpy().argmax(1)
    expected = brute_force(lambda x: tf.gather(hidden(x), column, batch_dims=1))
    np.testing.assert_allclose(explain(hidden, best), expected, atol=1e-9)


@pytest.mark.parametrize(
    "model, operator, targets, words",
    [
        (hidden, "boxes", None, "operator is 'boxes', expected one of 5 names, such as the near 'box'"),
        (hidden, "box", None, r"operator box got outputs tensor \(None, 7\), expected \{'boxes'"),
        (detector, "box", RNG.normal(size=(B, 3)), r"targets of operator box have shape \(None, 3\)"),
        (detector, "box", {"boxes": NUMBERS}, r"dict with \['boxes'\], expected some of \['box', 'class'\]"),
        (detector, "box", {"class": np.ones(B)}, "the classes in targets have .*float64"),
        (centred, operators.box("objectness"), None, "explains 'objectness'"),
        (hidden, "segment", NUMBERS, r"operator segment got tensor \(None, 7\), expected one tensor"),
        (pixels, "segment", None, "operator segment has no class"),
        (pixels, "segment", {"class": 1, "mask": np.ones([B, 3, 2])}, r"a mask of shape \(None, 3, 2\)"),
        (hidden, "regression", None, "operator regression has no targets"),
        (hidden, "regression", np.ones([B, 2]), r"targets of shape \(None, 2\), expected \(None, 7\)"),
        (detector, "regression", np.ones(B), "expected one tensor.*wrap the model"),
        (hidden, "regression", {"a": np.ones(B)}, "expected one array"),
        (hidden, "distance", {"a": X}, r"references \{'a': .*expected inputs like those"),
        (hidden, "distance", None, "operator distance has no targets, expected references"),
        (hidden, "distance", np.ones([B, H]), r"references tensor \(None, 7\).*distance\(embedded=True\)"),
        (hidden, "reconstruction", None, r"the inputs of shape \(None, 5\), expected \(None, 7\)"),
        (tf.tanh, "reconstruction", np.ones(B), "got targets, expected none"),
        (hidden, lambda m, x, t: (m(x), m(x)[:, :2]), None, r"the operator returned \[tensor"),
        (hidden, lambda m, x, t: (m(x), 3), None, "the operator returned"),
    ],
)
def test_what_does_not_fit_is_refused(model, operator, targets, words):
    with pytest.raises(ValueError, match=words):
        explain(model, operator, targets)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "model, operator, targets, words",
    [
        (detector, "box", [0, 1, A, 2], "the number of a box in targets is not there"),
        (detector, "box", [0, -1, 1, 2], "the number of a box in targets is not there"),
        (detector, "box", {"class": [0, C, 1, 2]}, "a class number in targets is not there"),
        (detector, "box", GIVEN + 1e3, "overlaps with none"),
        (pixels, "segment", {"class": 0, "mask": np.zeros([B, 2, 3])}, "a mask without pixels"),
    ],
)
def test_what_is_not_there_is_said_when_it_runs(model, operator, targets, words):
    with pytest.raises(RuntimeError, match=words):
        explain(model, operator, np.array(targets) if isinstance(targets, list) else targets)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: operators.box("score"), ValueError, "explain is 'score', expected 'class'"),
        (lambda: operators.box(4), ValueError, "explain is 4"),
        (lambda: operators.box(True), ValueError, "explain is True"),
        (lambda: operators.box(form="xyxy"), ValueError, "form is 'xyxy'"),
        (lambda: operators.regression("l2"), ValueError, "error is 'l2', expected"),
        (lambda: operators.reconstruction(2), ValueError, "error is 2"),
        (lambda: operators.distance("manhattan"), ValueError, "metric is 'manhattan'"),
        (lambda: operators.distance(embedded="yes"), TypeError, "embedded is 'yes'"),
        (lambda: Explainer(hidden, operator=3), TypeError, "operator is a int, expected a function"),
    ],
)
def test_messages_say_what_came_and_what_was_expected(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_examples_of_the_docstrings_run():
    results = doctest.testmod(
        importlib.import_module("igtf.explainer.operators"), extraglobs={"Explainer": Explainer}
    )
    assert results.attempted > 10 and not results.failed

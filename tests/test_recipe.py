"""The recipe: `linear_interpolation`, the user's own network, `build_ig`."""

import collections
import doctest
import importlib
import os
import pathlib
import re
import subprocess
import sys

import legacy_recipe
import numpy as np
import pytest
import tensorflow as tf

import igtf as ig
from igtf.points import Points

RULES = ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid", "gausslegendre"]


# Independent evaluations, in float64 NumPy or point by point with GradientTape


def rule(method, n):
    """Points in [0, 1] and weights, from the textbook."""
    if method == "gausslegendre":  # Golub and Welsch: the eigenvalues of a Jacobi matrix
        k = np.arange(1, n)
        off = k / np.sqrt(4 * k**2 - 1.0)
        nodes, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
        return (nodes + 1) / 2, vectors[0] ** 2
    if method == "riemann_trapezoid":
        edges = [i / (n - 1) for i in range(n)]
        return edges, [(0.5 if i in (0, n - 1) else 1.0) / (n - 1) for i in range(n)]
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return [(i + shift) / n for i in range(n)], [1 / n] * n


def integrate(gradient, x, baseline, method, num_steps):
    """The attribution by the paper's formula; `gradient` maps rows to rows."""
    x, baseline = np.float64(x), np.float64(baseline)
    terms = [w * gradient(baseline + p * (x - baseline)) for p, w in zip(*rule(method, num_steps))]
    return (x - baseline) * np.sum(terms, axis=0)


def random_weights(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b) / 2) for a, b in zip(sizes, sizes[1:])]
    return [array for pair in pairs for array in pair]


NUMPY = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.float64(z > 0)),
}


def numpy_mlp(x, weights, activation):
    """Probabilities `[B, C]` and the gradients of each class, `[C, B, ...]`."""
    f, slope = NUMPY[activation]
    h, jacobian = np.float64(x), None
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        z = h @ np.float64(w) + b
        step = np.float64(w) * slope(z)[:, None]
        jacobian = step if jacobian is None else jacobian @ step
        h = f(z)
    z = h @ np.float64(weights[-2]) + weights[-1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    by_logit = jacobian @ np.float64(weights[-2])  # [B, features, C]
    gradients = [
        p[:, c, None] * (by_logit[:, :, c] - np.einsum("bfk,bk->bf", by_logit, p)) for c in range(p.shape[1])
    ]
    return p, np.stack(gradients)


def mlp(x, weights, activation):
    """The same network as ops."""
    weights = [tf.cast(w, x.dtype) for w in weights]
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        x = getattr(tf.nn, activation)(x @ w + b)
    return tf.nn.softmax(x @ weights[-2] + weights[-1])


def tape_gradient(output):
    """Rows to rows: the gradient of `output(tensor)`, eagerly."""

    def gradient(rows):
        tensor = tf.constant(rows, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            y = output(tensor)
        return np.float64(tape.gradient(y, tensor))

    return gradient


# Both kinds of graph


def any_batch(array):
    return [None, *array.shape[1:]]


def in_session(build, *structures, shape=any_batch):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = tf.nest.map_structure(lambda a: tf.compat.v1.placeholder(a.dtype, shape(a)), structures)
        fetches = build(*tensors)
        session.run(tf.compat.v1.global_variables_initializer())
        return session.run(fetches, dict(zip(tf.nest.flatten(tensors), tf.nest.flatten(structures))))


def in_function(build, *structures, shape=any_batch, jit_compile=None):
    specs = tf.nest.map_structure(lambda a: tf.TensorSpec(shape(a), a.dtype), structures)
    traced = tf.function(build, input_signature=specs, autograph=False, jit_compile=jit_compile)
    return tf.nest.map_structure(np.asarray, traced(*tf.nest.map_structure(tf.constant, structures)))


@pytest.fixture(params=[in_session, in_function])
def run(request):
    return request.param


def recipe(network, x, num_steps=50, method="gausslegendre", baseline=None):
    inter, stepsize, _ = ig.linear_interpolation(x, num_steps, baseline, method)
    return ig.build_ig(inter, stepsize, network(inter), num_steps)


def secant(network, x, num_steps, baseline=None):
    return ig.integrated_gradients(network(x), x, baseline, num_steps, "secant", per_row=[])


def normal(*shape, seed=1, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def sum_features(tensor):
    return tf.reduce_sum(tensor, axis=tf.range(1, tf.rank(tensor)))


def cubes(tensor):
    return sum_features(tensor * tensor * tensor)


class TestTheOriginalProgram:
    """The README of the original project, unchanged but for where slim comes from."""

    @pytest.fixture(scope="class", params=["in this process", "after disable_v2_behavior"])
    def results(self, request, tmp_path_factory):
        if request.param == "in this process":
            return legacy_recipe.program
        path = tmp_path_factory.mktemp("legacy") / "results.npz"
        repository = str(pathlib.Path(__file__).parent.parent)
        done = subprocess.run(
            [sys.executable, legacy_recipe.__file__, str(path)],
            env={**os.environ, "PYTHONPATH": repository},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        arrays = np.load(path)

        def pick(*case):
            prefix = " ".join(case) + " "
            return {k[len(prefix) :]: arrays[k] for k in arrays.files if k.startswith(prefix)}

        return pick

    @pytest.mark.parametrize(
        "layers, spelling, method",
        [("slim", "original", "riemann_left"), ("get_variable", "corrected", "gausslegendre")],
    )
    def test_it_trains_and_explains_ten_classes_in_one_session(self, results, layers, spelling, method):
        found = results(layers, spelling)
        assert found["created"] == 0, "variables were created by the explanations"
        assert found["losses"][-1] < found["losses"][0] / 2
        weights = [found[f"weight{i}"] for i in range(6)]
        x, other = found["samples"], found["other"]
        np.testing.assert_allclose(found["probabilities"], numpy_mlp(x, weights, "relu")[0], atol=1e-5)
        for key, baseline in [("explained", 0 * x), ("from_row", other[:1]), ("from_rows", other)]:
            expected = integrate(lambda z: numpy_mlp(z, weights, "relu")[1], x, baseline, method, 50)
            np.testing.assert_allclose(found[key], expected, atol=1e-5)
        assert np.shape(found["nobody"]) == (10, 0, 12)

    def test_the_original_spelling_takes_its_arguments_by_name(self, run):
        def build(x):
            inter, stepsize, _ = ig.linear_inpterpolation(sample=x, num_steps=4)
            return ig.build_ig(inter, stepsize, cubes(inter), num_steps=4)

        # Left sum of 3 z^2 at 0, 1/4, 1/2 and 3/4.
        np.testing.assert_allclose(run(build, np.array([[2.0]])), [[2 * 3 * 4 * (1 + 4 + 9) / 16 / 4]])


class TestValues:
    @pytest.mark.parametrize("activation", NUMPY)
    @pytest.mark.parametrize("dtype, atol", [(np.float32, 3e-6), (np.float64, 1e-14)])
    @pytest.mark.parametrize("num_steps, seed", [(2, 1), (50, 3)])
    def test_they_equal_the_same_sum_in_float64_numpy(self, run, num_steps, seed, activation, dtype, atol):
        weights = random_weights(6, 9, 7, 3, seed=seed)
        x, baseline = normal(4, 6, seed=seed, dtype=dtype), normal(4, 6, seed=seed + 10, dtype=dtype)

        def network(x):
            return mlp(x, weights, activation)[:, 1]

        found = run(lambda x, b: [recipe(network, x, num_steps, method, b) for method in RULES], x, baseline)
        for method, one in zip(RULES, found):
            assert one.dtype == dtype
            expected = integrate(
                lambda z: numpy_mlp(z, weights, activation)[1][1], x, baseline, method, num_steps
            )
            np.testing.assert_allclose(one, expected, atol=atol, err_msg=method)

    @pytest.mark.parametrize("dtype, atol", [(tf.float16, 4e-3), (tf.bfloat16, 4e-2)])
    def test_half_precision_is_summed_in_float32(self, run, dtype, atol):
        # 2,000 terms of 1/2000 added up in half precision would stop growing at 1/4 or before.
        def build(x):
            return tf.cast(recipe(sum_features, tf.cast(x, dtype), 2000, "riemann_left"), tf.float32)

        np.testing.assert_allclose(run(build, np.ones([2, 3], np.float32)), np.ones([2, 3]), atol=atol)

    def test_points_and_steps_are_rows_step_by_step(self, run):
        x, baseline = normal(3, 2), normal(3, 2, seed=2)
        found = run(lambda x, b: ig.linear_interpolation(x, 4, b, "riemann_right"), x, baseline)
        for step in range(4):
            rows = slice(3 * step, 3 * step + 3)
            np.testing.assert_allclose(found[0][rows], baseline + (step + 1) / 4 * (x - baseline))
            np.testing.assert_allclose(found[1][rows], (x - baseline) / 4)
        np.testing.assert_array_equal(found[2], baseline)

    def test_entries_of_the_output_beyond_axis_0_are_summed(self, run):
        x = normal(3, 4)
        found = run(lambda x: recipe(lambda z: tf.stack([z, 3 * z], axis=2), x), x)
        np.testing.assert_allclose(found, 4 * x)

    @pytest.mark.parametrize(
        "method, order",
        [("riemann_left", 1), ("riemann_right", 1), ("riemann_middle", 2), ("riemann_trapezoid", 2)],
    )
    def test_completeness_improves_at_the_order_of_the_rule(self, method, order):
        errors = self.completeness_errors(method, [32, 64, 128])
        np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.1)

    def test_completeness_of_gausslegendre_improves_geometrically(self):
        errors = self.completeness_errors("gausslegendre", [2, 4, 8, 16])
        assert np.all(errors[1:] < errors[:-1] / 20)
        assert errors[-1] < 1e-10

    @staticmethod
    def completeness_errors(method, panels):
        weights, x = random_weights(5, 8, 3, seed=7), normal(1, 5)
        change = (numpy_mlp(x, weights, "tanh")[0] - numpy_mlp(0 * x, weights, "tanh")[0])[0, 1]

        def network(z):
            return mlp(z, weights, "tanh")[:, 1]

        steps = [n + (method == "riemann_trapezoid") for n in panels]
        found = in_function(lambda x: [recipe(network, x, n, method) for n in steps], x)
        return np.abs(np.sum(found, axis=(1, 2)) - change)

    @pytest.mark.parametrize(
        "method, num_steps, degree",
        [
            *[("riemann_left", 3, 0), ("riemann_right", 3, 0), ("riemann_middle", 1, 1)],
            *[("riemann_middle", 4, 1), ("riemann_trapezoid", 2, 1), ("riemann_trapezoid", 4, 1)],
            *[("gausslegendre", n, 2 * n - 1) for n in (1, 2, 3, 5)],
        ],
    )
    def test_a_rule_is_exact_for_polynomials_of_its_degree_and_no_further(self, method, num_steps, degree):
        x, baseline = np.array([2.0]), 0.5

        def error(power):  # the gradient of z^power has degree power - 1
            found = in_function(lambda x: recipe(lambda z: z**power, x, num_steps, method, baseline), x)
            return abs(found[0] / (2.0**power - 0.5**power) - 1)

        assert all(error(power) < 1e-13 for power in range(1, degree + 2))
        assert error(degree + 2) > 1e-8

    @pytest.mark.parametrize("num_steps", [128, 129, 300, 1000])
    def test_gausslegendre_stays_exact_when_it_is_composed_of_panels(self, num_steps):
        x = np.array([2.0, 3.0])
        found = in_function(lambda x: recipe(lambda z: z**21, x, num_steps), x)
        np.testing.assert_allclose(found, x**21, rtol=1e-13)


Pair = collections.namedtuple("Pair", "first second")


class TestShapes:
    @pytest.mark.parametrize(
        "pack",
        [
            lambda a, b, c: [a, b, c],
            lambda a, b, c: (a, b, c),
            lambda a, b, c: {"z": a, "m": b, "a": c},
            lambda a, b, c: {"z": [a, (b,)], "a": {"c": c}},
            lambda a, b, c: Pair(a, [b, c]),
        ],
        ids=["list", "tuple", "dict", "nested", "namedtuple"],
    )
    def test_several_inputs_share_one_path_and_keep_their_structure(self, run, pack):
        arrays = normal(4, 3), normal(4, 2, 3, seed=2), normal(4, seed=3)
        order = [int(i) for i in tf.nest.flatten(pack(0, 1, 2))]

        def network(inter):
            a, b, c = (tf.nest.flatten(inter)[order.index(i)] for i in range(3))
            return tf.reduce_sum(a[:, None] * b, axis=[1, 2]) * c

        def build(xs):
            parts = ig.linear_interpolation(xs, 2)
            for part in parts:
                tf.nest.assert_same_structure(xs, part)
            return ig.build_ig(*parts[:2], network(parts[0]), 2), secant(network, xs, 40)

        gauss, mean = run(build, pack(*arrays))
        a, b, c = arrays  # F is linear in each of the three, so from zeros each gets a third of F
        expected = pack(
            a * b.sum(1) * c[:, None] / 3,
            a[:, None] * b * c[:, None, None] / 3,
            (a[:, None] * b).sum((1, 2)) * c / 3,
        )
        tf.nest.map_structure(lambda e, f: np.testing.assert_allclose(f, e, rtol=1e-12), expected, gauss)
        tf.nest.map_structure(lambda e, f: np.testing.assert_allclose(f, e, rtol=1e-3), expected, mean)

    @pytest.mark.parametrize("inner", [(), (3,), (2, 1, 3, 2)])
    @pytest.mark.parametrize(
        "shape",
        [
            lambda a: list(a.shape),
            any_batch,
            lambda a: [a.shape[0], *[None] * (a.ndim - 1)],
            lambda a: [None] * a.ndim,
            lambda a: None,
        ],
        ids=["static", "any batch", "any inner", "any size", "any rank"],
    )
    def test_features_may_have_any_rank_and_sizes_may_be_unknown(self, run, shape, inner):
        def build(x):
            results = [recipe(cubes, x, 10), secant(cubes, x, 10)]
            for result in results:
                assert result.shape.rank == x.shape.rank
                assert result.shape.rank is None or result.shape.as_list() == x.shape.as_list()
            return results

        x = normal(4, *inner)
        for found in run(build, x, shape=shape):
            np.testing.assert_allclose(found, x**3, rtol=1e-12)

    @pytest.mark.parametrize("inner", [(), (2, 3)])
    @pytest.mark.parametrize("shape", [any_batch, lambda a: list(a.shape), lambda a: None])
    def test_no_rows_in_no_rows_out(self, run, shape, inner):
        x = np.zeros([0, *inner])
        found = run(lambda x: [recipe(cubes, x, 3, method) for method in RULES], x, shape=shape)
        assert [one.shape for one in found] == [x.shape] * 5

    def test_one_step_is_enough_for_every_rule_but_the_trapezoid(self, run):
        x, b = normal(3, 4), normal(3, 4, seed=2)
        expected = {
            "riemann_left": 3 * b**2,
            "riemann_right": 3 * x**2,
            "riemann_middle": 3 * ((x + b) / 2) ** 2,
            "gausslegendre": 3 * ((x + b) / 2) ** 2,
        }
        found = run(lambda x, b: [recipe(lambda z: z**3, x, 1, method, b) for method in expected], x, b)
        np.testing.assert_allclose(found, [slope * (x - b) for slope in expected.values()], rtol=1e-12)

    def test_the_number_of_steps_may_be_a_numpy_integer(self, run):
        found = run(lambda x: recipe(cubes, x, np.int64(2)), np.array([[2.0]]))
        np.testing.assert_allclose(found, [[8.0]])

    def test_an_input_that_the_output_ignores_gets_zeros(self, run):
        a, b = run(lambda x, y: recipe(lambda z: cubes(z[0]), [x, y], 5), normal(3, 2), normal(3, 4))
        np.testing.assert_allclose(a, normal(3, 2) ** 3)
        np.testing.assert_array_equal(b, np.zeros([3, 4]))

    def test_sequences_of_several_lengths_go_through_one_graph(self):
        traced = tf.function(
            lambda x: recipe(lambda z: tf.reduce_sum(tf.tanh(z), axis=[1, 2]), x, 30),
            input_signature=[tf.TensorSpec([None, None, 2], tf.float64)],
        )
        for length in (1, 5, 9):
            x = normal(3, length, 2)
            np.testing.assert_allclose(traced(x), np.tanh(x), atol=1e-9)


class TestBaselines:
    """F is a sum of cubes: features don't interact, so the attribution is x^3 - b^3."""

    @pytest.mark.parametrize(
        "baseline",
        [
            *[None, 0, 0.5, np.float32(0.5), np.array(0.5), [0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3])],
            *[np.array([1, 2, 3]), np.array([[0.1, 0.2, 0.3]]), normal(4, 3, seed=2), normal(4, 1, seed=2)],
        ],
        ids=[
            *["none", "zero", "float", "numpy float", "numpy scalar", "list", "one row"],
            *["integers", "one row of a batch", "one per row", "one number per row"],
        ],
    )
    def test_they_may_be_of_every_kind(self, run, baseline):
        x = normal(4, 3, dtype=np.float32)
        start = np.broadcast_to(0.0 if baseline is None else np.asarray(baseline), x.shape)
        found = run(lambda x: recipe(cubes, x, 3, baseline=baseline), x)
        np.testing.assert_allclose(found, x**3 - start**3, atol=1e-5)

    @pytest.mark.parametrize("shape", [any_batch, lambda a: [None] * a.ndim, lambda a: None])
    def test_they_may_be_tensors_of_any_static_shape(self, run, shape):
        x, baselines = normal(4, 3), [normal(*rows, seed=2) for rows in [(), (3,), (1, 3), (4, 3)]]
        found = run(
            lambda x, *baselines: [recipe(cubes, x, 3, baseline=b) for b in baselines], x, *baselines,
            shape=lambda a: [] if a.ndim == 0 else shape(a),
        )  # fmt: skip
        for one, b in zip(found, baselines):
            np.testing.assert_allclose(one, x**3 - b**3, atol=1e-14)

    def test_they_may_be_variables(self):
        b = tf.Variable([1.0, 2.0])
        found = in_function(lambda x: recipe(cubes, x, 3, baseline=b), np.ones([2, 2], np.float32))
        np.testing.assert_allclose(found, [[0, -7], [0, -7]], atol=1e-5)

    @pytest.mark.parametrize(
        "baseline", [0.5, {"a": 0.5, "b": [0.5] * 2}, {"a": None, "b": np.full([4, 2], 0.5)}]
    )
    def test_several_inputs_take_one_number_or_one_baseline_each(self, run, baseline):
        xs = {"a": normal(4, 3), "b": normal(4, 2, seed=2)}

        def build(xs):
            return recipe(lambda z: cubes(z["a"]) + cubes(z["b"]), xs, 3, baseline=baseline)

        found = run(build, xs)
        none = isinstance(baseline, dict) and baseline["a"] is None
        np.testing.assert_allclose(found["a"], xs["a"] ** 3 - (0 if none else 0.125), atol=1e-14)
        np.testing.assert_allclose(found["b"], xs["b"] ** 3 - 0.125, atol=1e-14)

    @pytest.mark.parametrize("inner", [(), (2, 3)])
    @pytest.mark.parametrize("shape", [any_batch, lambda a: None], ids=["any batch", "any rank"])
    def test_the_default_of_a_session_can_be_fed(self, inner, shape):
        x, b = normal(4, *inner), normal(4, *inner, seed=2)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            samples = tf.compat.v1.placeholder(tf.float64, shape(x))
            inter, stepsize, ref = ig.linear_interpolation(samples, 3)
            explained = ig.build_ig(inter, stepsize, cubes(inter), 3)
            feeds = [0.5, b[:1], b] + ([b[0]] if inner else [])
            for start in feeds:
                found, used = session.run([explained, ref], {samples: x, ref: start})
                np.testing.assert_allclose(found, x**3 - start**3, atol=1e-14)
                np.testing.assert_array_equal(used, start)
            found, used = session.run([explained, ref], {samples: x})
            np.testing.assert_allclose(found, x**3, atol=1e-14)
            assert not used.any()

    def test_each_of_several_defaults_can_be_fed_alone(self):
        a, b = normal(4, 3), normal(4, 2, seed=2)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            xs = {
                k: tf.compat.v1.placeholder(tf.float64, [None, v.shape[1]]) for k, v in [("a", a), ("b", b)]
            }
            inter, stepsize, ref = ig.linear_interpolation(xs, 3)
            explained = ig.build_ig(inter, stepsize, cubes(inter["a"]) + cubes(inter["b"]), 3)
            found = session.run(explained, {xs["a"]: a, xs["b"]: b, ref["b"]: b[0]})
        np.testing.assert_allclose(found["a"], a**3, atol=1e-14)
        np.testing.assert_allclose(found["b"], b**3 - b[0] ** 3, atol=1e-14)

    def test_an_input_that_equals_its_baseline_gets_nothing(self, run):
        x = normal(3, 4)
        found = run(lambda x: [recipe(cubes, x, 5, method, x) for method in RULES], x)
        assert not np.any(found)


class Module(tf.Module):
    """A network without Keras."""

    def __init__(self, *sizes):
        super().__init__()
        self.arrays = [tf.Variable(w, dtype=tf.float32) for w in random_weights(*sizes)]

    def __call__(self, x):
        return mlp(x, self.arrays, "tanh")


def keras_package(name):
    return tf.keras if name == "tf.keras" else pytest.importorskip(name)


def conv_net(keras):
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.layers.Conv2D(3, 3, activation="tanh", padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )


@tf.custom_gradient
def doubled(z):
    """The identity, with twice its gradient."""
    return tf.identity(z), lambda grad: 2 * grad


def networks():
    """Networks of affine ops and others."""
    w = tf.constant(normal(12, 7, seed=3))
    kernel, thin = tf.constant(normal(2, 2, 2, 3, seed=4)), tf.constant(normal(2, 2, 2, 1, seed=5))
    stats = [tf.constant(np.abs(normal(3, seed=k)) + 0.5) for k in range(4)]

    def image(z):
        return tf.reshape(z, [tf.shape(z)[0], 3, 2, 2])

    def normalized(z):
        z = tf.nn.conv2d(image(z), kernel, 1, "SAME")
        return tf.tanh(tf.nn.batch_normalization(z, *stats, 1e-3))

    return {
        "affine to the end": lambda z: z @ w,
        "flattened": lambda z: tf.tanh(tf.reshape(image(z) * 2, [-1, 12]) @ w),
        "convolutions": normalized,
        "depthwise": lambda z: tf.tanh(tf.nn.depthwise_conv2d(image(z), thin, [1] * 4, "SAME")),
        "residual": lambda z: tf.nn.relu(z @ w)[:, :4] + z[:, :4] ** 2 + 3 * z[:, 1:5],
        "the input after all": lambda z: tf.reduce_sum(z @ w, axis=1) * tf.sin(z[:, 0]),
        "slices": lambda z: tf.tanh(z[:, :4]) * tf.tanh(z[:, 4:8] - 1) + tf.exp(-z[:, 8:]),
        "a custom gradient": lambda z: tf.tanh(doubled(z @ w) / 3),
        "a custom gradient further on": lambda z: doubled(tf.tanh(z @ w / 3)),
        "a row factor": lambda z: tf.tanh(z * tf.cast(tf.range(tf.shape(z)[0])[:, None] % 3, z.dtype)),
    }


class TestGradients:
    """The sum is that of the gradients that TensorFlow has, custom ones among them."""

    @pytest.mark.parametrize("static", [False, True])
    @pytest.mark.parametrize("name", list(networks()))
    def test_the_sum_of_gradients_is_the_same(self, name, static):
        def build(x):
            output = networks()[name]
            inter, stepsize, _ = ig.linear_interpolation(x, 5, baseline=0.3)
            result = ig.build_ig(inter, stepsize, output(inter), 5)
            # By hand: whatever tf.gradients says at the rows, times the steps.
            terms = tf.gradients(output(inter), inter)[0] * stepsize
            return result, tf.reduce_sum(tf.reshape(terms, [5, 4, 12]), axis=0)

        actual, expected = in_function(build, normal(4, 12), shape=np.shape if static else any_batch)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)

    def test_a_gradient_by_override_counts(self):
        @tf.RegisterGradient("TestRecipeTripled")
        def tripled(op, grad):
            return 3 * grad

        def build(x):
            inter, stepsize, _ = ig.linear_interpolation(x, 3)
            with inter.graph.gradient_override_map({"Identity": "TestRecipeTripled"}):
                z = tf.identity(2 * inter)
            return ig.build_ig(inter, stepsize, z, 3)

        (actual,) = in_session(lambda x: [build(x)], normal(2, 4))
        np.testing.assert_allclose(actual, 6 * normal(2, 4))


class TestModels:
    @pytest.mark.parametrize("package", ["tf.keras", "tf_keras"])
    @pytest.mark.parametrize("jit_compile", [None, True])
    def test_keras_models_are_explained_as_gradient_tape_would(self, package, jit_compile):
        model = conv_net(keras_package(package))
        x, b = normal(3, 6, 6, 2, dtype=np.float32), normal(1, 6, 6, 2, seed=2, dtype=np.float32)
        model(x)

        def output(z):
            return model(z, training=False)[:, 2]

        found = in_function(lambda x, b: recipe(output, x, 9, baseline=b), x, b, jit_compile=jit_compile)
        expected = integrate(tape_gradient(output), x, b, "gausslegendre", 9)
        np.testing.assert_allclose(found, expected, atol=2e-6)

    @pytest.mark.parametrize("package", ["tf.keras", "tf_keras"])
    def test_keras_models_with_several_inputs_take_the_points_as_they_are(self, package):
        keras = keras_package(package)
        inputs = [keras.Input([3]), keras.Input([2, 3])]
        hidden = keras.layers.Concatenate(axis=1)([keras.layers.Reshape([1, 3])(inputs[0]), inputs[1]])
        hidden = keras.layers.GRU(4)(hidden)
        model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
        xs = [normal(3, 3, dtype=np.float32), normal(3, 2, 3, seed=2, dtype=np.float32)]
        found = in_function(lambda *xs: recipe(lambda z: model(z, training=False), list(xs), 20), *xs)
        change = model(xs) - model([0 * x for x in xs])
        np.testing.assert_allclose(found[0].sum(1) + found[1].sum((1, 2)), change[:, 0], atol=1e-5)

    @pytest.mark.parametrize("jit_compile", [None, True])
    def test_modules_are_explained_as_gradient_tape_would(self, jit_compile):
        model, x = Module(5, 6, 3), normal(4, 5, dtype=np.float32)
        found = in_function(lambda x: recipe(lambda z: model(z)[:, 1], x, 9), x, jit_compile=jit_compile)
        expected = integrate(tape_gradient(lambda z: model(z)[:, 1]), x, 0 * x, "gausslegendre", 9)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_compiled_graphs_compute_the_same(self):
        weights, x = random_weights(5, 6, 3), normal(4, 5)

        def build(x):
            return [recipe(lambda z: mlp(z, weights, "relu")[:, 1], x, 7, m) for m in RULES]

        compiled = in_function(build, x, jit_compile=True)
        np.testing.assert_allclose(compiled, in_function(build, x), atol=1e-14)

    def test_autograph_leaves_the_recipe_alone_inside_user_code_with_control_flow(self):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float64)])
        def explain(x):
            total = tf.zeros_like(x)
            for scale in tf.range(1, 4):
                if scale > 1:
                    total += recipe(lambda z: tf.cast(scale, z.dtype) * cubes(z), x, 3)  # noqa: B023
            return total

        np.testing.assert_allclose(explain(normal(3, 2)), 5 * normal(3, 2) ** 3)


class TestTraining:
    @pytest.mark.parametrize("explain", [recipe, secant])
    @pytest.mark.parametrize("activation", NUMPY)
    def test_the_gradient_of_a_loss_on_attributions_matches_finite_differences(self, explain, activation):
        weights, x = random_weights(4, 5, 3, seed=6), normal(3, 4, seed=7)

        def loss(x, *weights):
            found = explain(lambda z: mlp(z, weights, activation)[:, 0], x, 6)
            return tf.reduce_sum(tf.sin(found + 1))

        def shape(array):
            return list(array.shape)

        gradients = in_function(lambda *args: tf.gradients(loss(*args), args), x, *weights, shape=shape)
        values = tf.function(loss)
        for i, gradient in enumerate(gradients):
            direction = normal(*gradient.shape, seed=20 + i)
            up, down = ([x, *weights] for _ in range(2))
            up[i], down[i] = up[i] + 1e-6 * direction, down[i] - 1e-6 * direction
            difference = (values(*map(tf.constant, up)) - values(*map(tf.constant, down))) / 2e-6
            np.testing.assert_allclose(np.sum(gradient * direction), difference, atol=1e-7)

    @pytest.mark.parametrize("explain", [recipe, secant])
    def test_a_loss_on_attributions_trains_a_network_in_a_session(self, explain):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 5])
            variables = [tf.compat.v1.get_variable(f"w{i}", initializer=np.float32(w))
                         for i, w in enumerate(random_weights(5, 6, 3))]  # fmt: skip
            share = tf.abs(explain(lambda z: mlp(z, variables, "tanh")[:, 0], x, 8))
            first, others = tf.reduce_mean(share[:, 0]), tf.reduce_mean(share[:, 1:])
            train = tf.compat.v1.train.AdamOptimizer(0.02).minimize(first - others)
            session.run(tf.compat.v1.global_variables_initializer())
            feed = {x: normal(16, 5, dtype=np.float32)}
            before = session.run([first, others], feed)
            for _ in range(60):
                session.run(train, feed)
            after = session.run([first, others], feed)
        assert after[0] < before[0] / 3, "the network still uses the feature that it should not use"
        assert after[1] > before[1]

    @pytest.mark.parametrize("explain", [recipe, secant])
    def test_a_loss_on_attributions_trains_a_keras_model_under_an_outer_tape(self, explain):
        tf.keras.utils.set_random_seed(1)
        model = tf.keras.Sequential([tf.keras.layers.Dense(6, "tanh"), tf.keras.layers.Dense(1)])
        x = tf.constant(normal(16, 5, dtype=np.float32))
        model(x)

        @tf.function
        def first(x):
            return tf.reduce_mean(tf.abs(explain(model, x, 8)[:, 0]))

        losses = []
        for _ in range(40):
            with tf.GradientTape() as tape:
                losses.append(loss := first(x))
            for v, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
                if gradient is not None:  # the last bias plays no part
                    v.assign_sub(0.2 * gradient)
        assert losses[-1] < losses[0] / 3

    def test_attributions_take_part_in_further_ops(self, run):
        x = np.array([[3.0, 1.0], [-2.0, 4.0]])
        found = run(lambda x: tf.argmax(tf.abs(recipe(cubes, x, 3)), axis=1), x)
        np.testing.assert_array_equal(found, [0, 1])


class TestSecant:
    @pytest.fixture
    def even(self, monkeypatch):
        """Points at even places, whatever the network says."""
        monkeypatch.setattr(Points, "_find", lambda self: None)

    @pytest.mark.parametrize("num_steps", [1, 2, 7])
    @pytest.mark.parametrize("activation", NUMPY)
    def test_it_backpropagates_with_the_slope_of_every_unit_over_every_interval(
        self, run, num_steps, activation, even
    ):
        w0, b0, w1, b1, w2, _ = random_weights(6, 9, 7, 1, seed=8)
        x, baseline = normal(4, 6), normal(4, 6, seed=2)
        f = NUMPY[activation][0]

        def network(z):
            g = getattr(tf.nn, activation)
            return g(g(z @ w0 + b0) @ w1 + b1) @ w2

        expected = 0
        for k in range(num_steps):
            ends = [baseline + alpha * (x - baseline) for alpha in (k / num_steps, (k + 1) / num_steps)]
            z = [end @ w0 + b0 for end in ends]
            y = [f(end) @ w1 + b1 for end in z]
            inner = (f(z[1]) - f(z[0])) / (z[1] - z[0])
            outer = (f(y[1]) - f(y[0])) / (y[1] - y[0])
            expected += (((outer * w2[:, 0]) @ w1.T * inner) @ w0.T) * (x - baseline) / num_steps
        found = run(lambda x, b: secant(network, x, num_steps, b), x, baseline)
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_it_converges_to_integrated_gradients_with_order_two(self, even):
        weights, x = random_weights(5, 8, 3, seed=4), normal(2, 5)
        exact = integrate(lambda z: numpy_mlp(z, weights, "tanh")[1][1], x, 0 * x, "gausslegendre", 60)

        def build(x):
            return [secant(lambda z: mlp(z, weights, "tanh")[:, 1], x, n) for n in (16, 32, 64)]

        errors = np.abs(np.array(in_function(build, x)) - exact).max((1, 2))
        np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2, atol=0.15)

    NETWORKS = {
        "stacked": lambda z: mlp(tf.reshape(z, [-1, 12]), random_weights(12, 9, 3), "relu")[:, 1],
        "time-major": lambda z: time_major(z),
        "rows times time": lambda z: tf.reduce_max(
            tf.reshape(tf.nn.relu(tf.reshape(z, [-1, 3]) @ TIME[0]), [-1, 4, 5]), axis=[1, 2]
        ),
        "pooled": lambda z: tf.reduce_sum(
            tf.nn.softmax(tf.nn.max_pool1d(tf.nn.relu(z - 0.2), 2, 1, "SAME") * z)[:, :, 0], axis=1
        ),
        "norm": lambda z: tf.norm(tf.nn.relu(tf.einsum("btf,fu->btu", z, TIME[0])), axis=[1, 2]),
        "function call": lambda z: tf.function(lambda z: tf.reduce_sum(tf.nn.relu(z - 0.3) * z, [1, 2]))(z),
    }

    @pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
    @pytest.mark.parametrize("shape", [any_batch, lambda a: list(a.shape)], ids=["any batch", "static"])
    def test_it_is_complete_by_construction(self, run, network, shape):
        x, b = normal(5, 4, 3), normal(5, 4, 3, seed=2)
        found, end, start = run(
            lambda x, b: (secant(network, x, 3, b), network(x), network(b)), x, b, shape=shape
        )
        assert found.shape == x.shape
        np.testing.assert_allclose(found.sum((1, 2)), end - start, atol=1e-13)

    @pytest.mark.parametrize("rows", [1, 4])
    def test_time_major_networks_give_what_batch_major_ones_give(self, run, rows):
        x = normal(rows, 4, 3)
        found, expected = run(lambda x: [secant(net, x, 3) for net in (time_major, batch_major)], x)
        np.testing.assert_allclose(found, expected, atol=1e-13)


TIME = normal(3, 5, seed=30), normal(5, 5, seed=31) / 3


def recurrent(steps):
    h = 0.0
    for step in steps:
        h = tf.nn.relu(step @ TIME[0] + (h @ TIME[1] if step is not steps[0] else 0.0) + 0.1)
    return tf.reduce_sum(h, axis=1)


def time_major(z):
    return recurrent(tf.unstack(tf.transpose(z, [1, 0, 2])))


def batch_major(z):
    return recurrent([z[:, t] for t in range(4)])


EAGER, VARIABLE = tf.ones([50, 3]), tf.Variable([[1.0]])
FURTHER = r".*\. [A-Z]"  # one more sentence


class TestBadInput:
    """Every message says what came in, what was expected and, in a further sentence, what to do."""

    CASES = {
        "an eager x": (
            lambda x: ig.linear_interpolation(EAGER),
            TypeError, "x is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "a variable as x": (
            lambda x: ig.linear_interpolation(VARIABLE),
            TypeError, "x is a variable", "tensor of the graph", "tensor = tf.identity",
        ),
        "an array as x": (
            lambda x: ig.linear_interpolation(np.ones([2, 3])),
            TypeError, "x is a ndarray", "tensor of the graph", "Pass the tensor",
        ),
        "a KerasTensor as x": (
            lambda x: ig.linear_interpolation(tf.keras.Input([3])),
            TypeError, "x is a KerasTensor", "not a tensor of a graph", "Call the model on a tensor",
        ),
        "a KerasTensor among several": (
            lambda x: ig.linear_interpolation({"a": x, "b": tf.keras.Input([3])}),
            TypeError, "x is a KerasTensor", "not a tensor of a graph", "Call the model on a tensor",
        ),
        "a sparse x": (
            lambda x: ig.linear_interpolation(tf.sparse.from_dense(x)),
            TypeError, "x is a SparseTensor", "dense tensor", "tf.sparse.to_dense",
        ),
        "integers": (
            lambda x: ig.linear_interpolation(tf.cast(x, tf.int32)),
            TypeError, "has dtype int32", "floating dtype", "Attribute to the embedding's output instead",
        ),
        "strings": (
            lambda x: ig.linear_interpolation(tf.as_string(x)),
            TypeError, "has dtype string", "floating dtype", "Attribute to the embedding's output instead",
        ),
        "no batch dimension": (
            lambda x: ig.linear_interpolation(x[0, 0]),
            ValueError, "is a scalar", r"\[B, ...\] with a batch", "tf.expand_dims",
        ),
        "no inputs": (
            lambda x: ig.linear_interpolation([]),
            ValueError, r"x is \[\]", "at least one tensor", FURTHER,
        ),
        "inputs of several batch sizes": (
            lambda x: ig.linear_interpolation([tf.ones([2, 3]), tf.ones([4, 3])]),
            ValueError, r"have \[2, 4\] rows", "the same number", "belong together",
        ),
        "steps as a float": (
            lambda x: ig.linear_interpolation(x, 50.0),
            TypeError, "num_steps is 50.0 of type float", "positive Python int", FURTHER,
        ),
        "steps as a truth value": (
            lambda x: ig.linear_interpolation(x, True),
            TypeError, "num_steps is True of type bool", "positive Python int", FURTHER,
        ),
        "steps as a tensor": (
            lambda x: ig.linear_interpolation(x, tf.shape(x)[0]),
            TypeError, "num_steps is <tf.Tensor.*of type", "positive Python int", FURTHER,
        ),
        "no steps": (
            lambda x: ig.linear_interpolation(x, 0),
            ValueError, "num_steps is 0", "1 to 1,000,000", FURTHER,
        ),
        "fewer than no steps": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s, o, num_steps=-1)),
            ValueError, "build_ig: num_steps is -1", "1 to 1,000,000", FURTHER,
        ),
        "more than a million steps": (
            lambda x: ig.linear_interpolation(x, 1_000_001),
            ValueError, "num_steps is 1000001", "1 to 1,000,000", FURTHER,
        ),
        "one point for a trapezoid": (
            lambda x: ig.linear_interpolation(x, 1, method="riemann_trapezoid"),
            ValueError, "num_steps is 1", "2 to 1,000,000", FURTHER,
        ),
        "an unknown method": (
            lambda x: ig.linear_interpolation(x, method="simpson"),
            ValueError, "method is 'simpson'", "one of", "riemann_left.*gausslegendre" + FURTHER,
        ),
        "a method that is no string": (
            lambda x: recipe(cubes, x, method=["secant"]),
            ValueError, r"method is \['secant'\]", "one of", "riemann_left.*gausslegendre" + FURTHER,
        ),
        "a baseline with other features": (
            lambda x: ig.linear_interpolation(x, baseline=np.zeros(4)),
            ValueError, r"baseline has shape \(4,\)", r"broadcasts to \(None, 3\)", "one row",
        ),
        "a baseline of higher rank": (
            lambda x: ig.linear_interpolation(x, baseline=np.zeros([1, 1, 3])),
            ValueError, r"baseline has shape \(1, 1, 3\)", r"broadcasts to \(None, 3\)", "one row",
        ),
        "a baseline with more rows than x": (
            lambda x: ig.linear_interpolation(tf.ensure_shape(x, [1, 3]), baseline=np.zeros([2, 3])),
            ValueError, r"baseline has shape \(2, 3\)", r"broadcasts to \(1, 3\)", "one row",
        ),
        "a baseline of another dtype": (
            lambda x: ig.linear_interpolation(x, baseline=tf.zeros([3], tf.float64)),
            TypeError, "baseline has dtype float64", "float32", "tf.cast",
        ),
        "a baseline that is no number": (
            lambda x: ig.linear_interpolation(x, baseline="zeros"),
            TypeError, "baseline of type str", "a number, an array or a tensor", "broadcasts to",
        ),
        "a baseline for one of two inputs": (
            lambda x: ig.linear_interpolation([x, x], baseline=[0.5]),
            ValueError, r"baseline has the structure \[float\]", "one scalar", "that of the inputs" + FURTHER,
        ),
        "a baseline under another key": (
            lambda x: ig.linear_interpolation({"a": x}, baseline={"b": 0.5}),
            ValueError, "baseline has the structure {'b'", "one scalar", "that of the inputs" + FURTHER,
        ),
        "an eager output": (
            lambda x: ig.build_ig(*ig.linear_interpolation(x)[:2], EAGER),
            TypeError, "output is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "an eager inter": (
            lambda x: ig.build_ig(EAGER, x, x),
            TypeError, "inter is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "an output of x instead of inter": (
            lambda x: ig.build_ig(*ig.linear_interpolation(x)[:2], cubes(x)),
            ValueError, "no gradient flows from output", "to inter", "Call the network on inter",
        ),
        "ids made of inter": (
            lambda x: recipe(lambda z: tf.gather(tf.ones([9]), tf.cast(z[:, 0], tf.int32)), x),
            ValueError, "no gradient flows from output", "differentiable", "ids",
        ),
        "a stopped gradient": (
            lambda x: recipe(lambda z: tf.stop_gradient(cubes(z)), x),
            ValueError, "no gradient flows from output", "differentiable", "tf.stop_gradient",
        ),
        "classes instead of scores": (
            lambda x: recipe(lambda z: tf.argmax(z, axis=1), x),
            (TypeError, ValueError), "output", "expected", "argmax",
        ),
        "a loss over the batch": (
            lambda x: recipe(lambda z: tf.reduce_sum(z), x),
            ValueError, "output '.*' is a scalar", r"\[S \* B, ...\]", "output for every row",
        ),
        "an output with the rows of x": (
            lambda x: recipe(lambda z: cubes(z)[:2], tf.ensure_shape(x, [2, 3])),
            ValueError, r"output '.*' has shape \(2,\)", r"\(100,\) rows as inter", "Pass what the network",
        ),
        "another number of steps": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s, o, num_steps=10)),
            ValueError, "inter '.*' has 20 points", "multiple of 10 rows", "the same num_steps",
        ),
        "another number of steps, static batch": (
            lambda x: with_mistake(
                tf.ensure_shape(x, [2, 3]), lambda i, s, o: ig.build_ig(i, s, o, num_steps=10)
            ),
            ValueError, "inter '.*' has 20 points", "multiple of 10 rows", "the same num_steps",
        ),
        "a stepsize of another shape": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s[:, :2], o, 20)),
            ValueError, r"stepsize is float32 \(None, 2\)", r"float32 \(None, 3\) as inter", "Pass both as",
        ),
        "a stepsize of another dtype": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, tf.cast(s, tf.float64), o, 20)),
            ValueError, "stepsize is float64", "float32", "Pass both as",
        ),
        "a stepsize of another structure": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig([i], (s,), o, 20)),
            ValueError, r"stepsize has the structure \(\w*Tensor\)", r"that of inter, \[\w*Tensor\]", FURTHER,
        ),
        "a stepsize that is missing": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig([i, i], [s], o, 20)),
            ValueError, "stepsize has the structure", "that of inter", FURTHER,
        ),
    }  # fmt: skip

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_it_is_refused_with_what_came_in_what_was_expected_and_what_to_do(self, case):
        call, error, came, expected, advice = case
        with pytest.raises(error) as caught:
            tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec([None, 3], tf.float32))
        message = str(caught.value)
        assert message.startswith(("linear_interpolation: ", "build_ig: "))
        assert re.search(f"(?s){came}.*{expected}.*{advice}", message), message

    def test_a_tensor_from_inside_a_function_is_refused_outside(self):
        leaked = []
        function = tf.function(lambda x: leaked.append(x) or x)  # as long as it lives, so does its graph
        function(tf.ones([2, 3]))
        with pytest.raises(TypeError, match="x is a graph tensor.*outside its graph.*inside the same"):
            ig.linear_interpolation(leaked[0])

    @pytest.mark.parametrize("argument", ["x", "baseline"])
    def test_eager_tensors_are_refused_in_the_graph_of_a_session(self, argument):
        with tf.Graph().as_default():
            x = tf.compat.v1.placeholder(tf.float32, [None, 3])
            arguments = {"x": x, **{argument: EAGER}}
            with pytest.raises(TypeError, match=f"{argument} is eager.*expected"):
                ig.linear_interpolation(**arguments)

    def test_a_fed_baseline_that_does_not_broadcast_fails_and_says_so(self):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 3])
            inter, _, ref = ig.linear_interpolation(x, 2)
            for wrong in (np.zeros(4), np.zeros([3, 3])):
                with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)shape"):
                    session.run(inter, {x: np.zeros([2, 3]), ref: wrong})


def with_mistake(x, build):
    inter, stepsize, _ = ig.linear_interpolation(x, 20)
    return build(inter, stepsize, cubes(inter))


def test_the_examples_in_the_docstrings_run():
    results = doctest.testmod(importlib.import_module("integrated_gradients_tf"))
    assert results.attempted > 3
    assert results.failed == 0

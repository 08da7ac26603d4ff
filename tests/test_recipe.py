"""The recipe: `linear_interpolation`, the user's own network, `build_ig`; values, shapes and baselines."""

import collections
import doctest
import importlib
import os
import pathlib
import shutil
import subprocess
import sys

import legacy_recipe
import numpy as np
import pytest
import tensorflow as tf
from reference import (
    NUMPY,
    any_batch,
    in_function,
    in_session,
    integrate,
    mlp,
    normal,
    numpy_mlp,
    random_weights,
)
from shared_networks import RULES, cubes, recipe, secant, sum_features

import igtf as ig


@pytest.fixture(params=[in_session, in_function])
def run(request):
    return request.param


class TestTheOriginalProgram:
    """The README of the original project, unchanged but for where slim comes from."""

    @pytest.fixture(scope="class", params=["in this process", "after disable_v2_behavior"])
    def results(self, request, tmp_path_factory):
        if request.param == "in this process":
            return legacy_recipe.program
        # With the one file beside it, and nothing else of ours.
        folder = tmp_path_factory.mktemp("legacy")
        path, program = folder / "results.npz", folder / "program.py"
        shutil.copy(legacy_recipe.__file__, program)
        shutil.copy(pathlib.Path(__file__).parent.parent / "integrated_gradients_tf.py", folder)
        done = subprocess.run(
            [sys.executable, str(program), str(path)],
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            cwd=folder,
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
    @pytest.mark.few(9)
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
    @pytest.mark.thin
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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


def test_the_examples_in_the_docstrings_run():
    results = doctest.testmod(importlib.import_module("integrated_gradients_tf"))
    assert results.attempted > 3
    assert results.failed == 0

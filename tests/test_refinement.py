"""Steps until a tolerance is kept, and the errors estimated on the way, beside brute force in float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, midpoints, tape_gradients
from shared_networks import BATCHES, NETWORKS, RULES, inputs, mlp

import igtf as ig
from igtf.levels import Levels
from igtf.refinement import Estimate

v1 = tf.compat.v1
ROWS = 8


def second(network):
    return lambda x: network(x)[:, 1]


def attributed(network, x, baseline, static=False, **options):
    """`(attributions, errors, steps)` of the second output."""
    options = {"return_error": True, **options}
    return as_graph(attribution(network, tuple(options.items())), [x, baseline], static)


@functools.cache
def attribution(network, options):
    """The same function for the same arguments, so that `as_graph` traces it once."""

    def build(x, baseline):
        return ig.integrated_gradients(network(x)[:, 1], x, baseline, **dict(options))

    return build


def truth(network, x, baseline, steps=1500):
    return brute_force(tape_gradients(second(network)), [x], [baseline], midpoints(steps))[0]


def keeps(found, expected, tolerance):
    """Whether attributions are as good as promised: nearly all rows, and none is twice as bad."""
    true = relative(found - expected, expected)
    return (true <= 2 * tolerance).all() and np.mean(true <= tolerance) > 0.7


def relative(difference, attributions):
    """Relative L1 per row."""
    sizes = [np.abs(a.astype(np.float64)).reshape(len(a), -1).sum(1) for a in (difference, attributions)]
    return sizes[0] / sizes[1]


@pytest.fixture(scope="module")
def known():
    """name -> (network, x, baseline, attributions as they are)."""
    found = {}
    for name, (network, shape) in NETWORKS.items():
        x, baseline = inputs(ROWS, *shape)
        found[name] = network, x, baseline, truth(network, x, baseline)
    return found


class TestTolerance:
    @pytest.mark.few(3)
    @BATCHES
    @pytest.mark.parametrize("name", NETWORKS)
    def test_it_is_kept(self, known, name, static):
        network, x, baseline, expected = known[name]
        before = 0
        for tolerance in (0.1, 0.01):
            found, errors, steps = attributed(network, x, baseline, static, tolerance=tolerance)
            assert (errors <= tolerance).all()
            assert keeps(found, expected, tolerance)
            smooth = name == "transformer"  # whose points nest
            assert {step + smooth for step in steps} <= {10, 20, 40, 80, 160, 320, 640}
            assert steps.sum() > before
            before = steps.sum()

    @pytest.mark.few(4)
    @pytest.mark.parametrize("method", ["secant", *RULES])
    def test_every_method_takes_one(self, known, method):
        network, x, baseline, expected = known["mlp"]
        most = 50_000 if method in ("riemann_left", "riemann_right") else None
        found, errors, steps = attributed(network, x, baseline, method=method, tolerance=0.01, num_steps=most)
        assert (errors <= 0.01).all() and keeps(found, expected, 0.01)
        assert len(set(steps)) > 1

    @pytest.mark.few(3)
    @pytest.mark.parametrize("method", ["gausslegendre", *RULES])
    def test_attributions_are_those_of_as_many_steps(self, known, method):
        network, x, baseline, _ = known["conv_bn"]
        found, _, steps = attributed(network, x, baseline, method=method, tolerance=0.03, num_steps=200)
        for taken in set(steps):
            rows = steps == taken
            same = attributed(
                network, x[rows], baseline[rows], method=method, num_steps=int(taken), return_error=False
            )
            assert_close(found[rows], same, 1e-9)

    def test_zero_takes_all_the_steps_there_are(self, known):
        network, x, baseline, _ = known["transformer"]
        _, errors, steps = attributed(network, x, baseline, tolerance=0, num_steps=41)
        assert (steps == 39).all() and (errors > 0).all()

    def test_rows_that_do_not_reach_it_have_the_most_steps_and_say_so(self, known):
        network, x, baseline, expected = known["conv_bn"]
        found, errors, steps = attributed(network, x, baseline, tolerance=1e-5, num_steps=40)
        assert (steps == 40).all() and (errors > 1e-5).all()
        assert (relative(found - expected, expected) < 2 * errors).all()

    def test_without_return_error_attributions_are_all_that_is_returned(self, known):
        network, x, baseline, _ = known["mlp"]
        found, *_ = attributed(network, x, baseline, tolerance=0.01)
        alone = attributed(network, x, baseline, tolerance=0.01, return_error=False)
        np.testing.assert_array_equal(found, alone)


class TestRows:
    @pytest.mark.few(2)
    @pytest.mark.parametrize("name, static", [("mlp", True), ("mlp", False), ("transformer", False)])
    def test_each_is_explained_as_if_it_were_alone(self, known, name, static):
        network, x, baseline, _ = known[name]
        found = attributed(network, x, baseline, static, tolerance=0.003)
        assert len(set(found[2])) > 1
        for i in range(0, ROWS, 3):
            alone = attributed(network, x[i : i + 1], baseline[i : i + 1], static, tolerance=0.003)
            assert alone[2] == found[2][i]
            assert_close(found[0][i], alone[0][0], 1e-9)
            np.testing.assert_allclose(found[1][i], alone[1][0], rtol=1e-6)

    @pytest.mark.parametrize(
        "name, static",
        [
            ("cnn", True),
            pytest.param("cnn", False, marks=pytest.mark.slow),
            pytest.param("transformer", False, marks=pytest.mark.slow),
        ],
    )
    def test_the_size_of_blocks_changes_nothing(self, known, name, static):
        network, x, baseline, _ = known[name]
        found = attributed(network, x, baseline, static, tolerance=0.01)
        for max_rows in (2 * ROWS, 7 * ROWS):
            other = attributed(network, x, baseline, static, tolerance=0.01, max_rows=max_rows)
            np.testing.assert_array_equal(found[2], other[2])
            assert_close(found[0], other[0], 1e-9)

    def test_a_batch_that_is_baked_in_gets_the_same(self, known):
        network, x, baseline, _ = known["mlp"]
        baked = attributed(lambda x: network(tf.reshape(x, [ROWS, 12])), x, baseline, True, tolerance=0.01)
        # Points follow slopes, which short intervals know less well; errors are differences of such.
        for one, other, near in zip(baked, attributed(network, x, baseline, tolerance=0.01), (1e-7, 1e-5, 0)):
            assert_close(one, other, near)

    def test_what_has_one_entry_per_row_leaves_with_its_row(self):
        x, baseline = inputs(ROWS, 12)
        classes = np.arange(ROWS) % 3
        scale = np.linspace(0.5, 2, ROWS)[:, None]

        def build(x, baseline, classes, scale):
            ys = tf.gather(mlp(x * scale), classes, batch_dims=1)
            return ig.integrated_gradients(ys, x, baseline, tolerance=0.01, return_error=True)

        found, errors, steps = as_graph(build, [x, baseline, classes, scale], False)
        assert len(set(steps)) > 1 and (errors <= 0.01).all()
        for i in range(ROWS):
            alone = as_graph(build, [a[i : i + 1] for a in (x, baseline, classes, scale)], False)
            assert_close(found[i], alone[0][0], 1e-9)

    def test_weights_of_outputs_leave_with_their_row(self):
        x, baseline = inputs(ROWS, 12)
        chosen = np.eye(3)[np.arange(ROWS) % 3]

        def build(x, baseline, chosen):
            return ig.integrated_gradients(mlp(x), x, baseline, grad_ys=chosen, tolerance=0.01)

        found = as_graph(build, [x, baseline, chosen], False)
        expected = brute_force(
            tape_gradients(lambda x: tf.reduce_sum(mlp(x) * chosen, 1)), [x], [baseline], midpoints(1500)
        )
        assert keeps(found, expected[0], 0.01)

    def test_a_row_of_nan_is_alone_in_it(self, known):
        network, x, baseline, _ = known["mlp"]
        broken = x.copy()
        broken[2, 3] = np.nan
        for static in (True, False):
            found, errors, steps = attributed(network, broken, baseline, static, tolerance=0.01)
            good = np.arange(ROWS) != 2
            same = attributed(network, x, baseline, static, tolerance=0.01)
            assert_close(found[good], same[0][good], 1e-9)
            assert np.isnan(errors[2]) and np.isnan(found[2]).any() and steps[2] == 10
            np.testing.assert_array_equal(steps[good], same[2][good])

    @pytest.mark.parametrize("smooth", [True, False])
    def test_a_rank_that_only_the_run_knows_will_do(self, smooth):
        x = inputs(3, 6)[0]
        with tf.Graph().as_default(), v1.Session() as session:
            feed = v1.placeholder(tf.float64, None)
            y = tf.reduce_sum((tf.tanh(feed) if smooth else tf.nn.relu(feed - 0.3)) ** 2, axis=1)
            found = ig.integrated_gradients(y, feed, tolerance=0.001, per_row=[])
            exact = ig.integrated_gradients(y, feed, num_steps=500, per_row=[])
            found, exact = session.run([found, exact], {feed: x})
        assert keeps(found, exact, 0.001)

    def test_no_rows_are_no_rows(self, known):
        network, x, baseline, _ = known["cnn"]
        found, errors, steps = attributed(network, x[:0], baseline[:0], tolerance=0.01)
        assert found.shape == x[:0].shape and errors.shape == steps.shape == (0,)

    def test_rows_that_cannot_be_told_apart_are_done_together(self):
        x = inputs(4, 6)[0]

        def build(x):
            sums = tf.math.unsorted_segment_sum(tf.tanh(x), tf.constant([1, 0, 1, 0]), 4)
            return ig.integrated_gradients(sums**2, x, tolerance=0.001, return_error=True)

        found, errors, steps = as_graph(build, [x], True)
        whole = as_graph(build_with_steps(320), [x], True)
        assert (errors <= 0.001).all() and keeps(found, whole, 0.001)
        assert len(steps) == 4


def build_with_steps(steps):
    def build(x):
        sums = tf.math.unsorted_segment_sum(tf.tanh(x), tf.constant([1, 0, 1, 0]), 4)
        return ig.integrated_gradients(sums**2, x, num_steps=steps)

    return build


class TestErrors:
    @pytest.mark.few(4)
    @pytest.mark.parametrize("method", ["auto", "secant", *RULES])
    def test_they_are_the_change_from_half_as_many_steps(self, known, method):
        network, x, baseline, _ = known["mlp"]
        found, errors, steps = attributed(network, x, baseline, num_steps=28, method=method)
        plain = attributed(network, x, baseline, num_steps=28, method=method, return_error=False)
        assert_close(found, plain, 1e-9)
        assert (steps == 28).all()
        if method != "auto":  # half as many of which have other points by themselves
            half = attributed(network, x, baseline, num_steps=14, method=method, return_error=False)
            growth = 27 / 13 if method == "riemann_trapezoid" else 2
            np.testing.assert_allclose(errors, relative(found - half, found) / (growth - 1), rtol=1e-6)

    @pytest.mark.few(3)
    @pytest.mark.parametrize("steps", [10, 20, 50])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_they_bound_the_truth(self, known, name, steps):
        network, x, baseline, expected = known[name]
        found, errors, _ = attributed(network, x, baseline, num_steps=steps)
        true = relative(found - expected, expected)
        assert (true <= np.maximum(3 * errors, 1e-3)).all() and np.mean(true <= errors + 5e-4) > 0.6
        assert true.mean() > errors.mean() / 100 or name == "transformer"

    def test_nothing_is_wrong_where_nothing_changes(self):
        x = inputs(3, 12)[0]
        for static in (True, False):
            found, errors, steps = attributed(mlp, x, x, static, tolerance=0.01)
            assert (found == 0).all() and (errors == 0).all() and (steps == 10).all()
        assert (attributed(mlp, x, x, tolerance=0)[2] == 10).all()

    def test_rounding_is_no_error(self):
        """What cancels in exact arithmetic leaves attributions of rounding, whose changes are as large."""
        x, baseline = (a.astype(np.float32) for a in inputs(4, 12))

        def network(x):
            return 100 + tf.stack(2 * [tf.reduce_sum(tf.tanh(x) ** 2 + tf.cosh(x) ** -2, axis=1)], axis=1)

        found, errors, _ = attributed(network, x, baseline, tolerance=0.01)
        assert (np.abs(found) < 1e-4).all() and (errors <= 1).all()

    def test_constants_have_none(self):
        x = inputs(3, 4)[0]
        found, errors, _ = attributed(lambda x: 0 * x, x, 0 * x, tolerance=0.01)
        assert (found == 0).all() and (errors == 0).all()

    @pytest.mark.few(1)
    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
    def test_types_of_few_digits_have_errors_in_float32(self, dtype):
        x, baseline = (tf.cast(a, dtype) for a in inputs(4, 12))

        @tf.function
        def run(x, baseline):
            y = mlp(x)[:, 1]
            return ig.integrated_gradients(y, x, baseline, tolerance=0.05, return_error=True)

        found, errors, _ = run(x, baseline)
        assert found.dtype == dtype and errors.dtype == tf.float32 and (errors.numpy() <= 0.05).all()

    def test_alone_they_are_those_beside_attributions(self, known):
        network, x, baseline, _ = known["cnn"]

        def build(x, baseline):
            return ig.attribution_error(network(x)[:, 1], x, baseline, 20)

        _, errors, _ = attributed(network, x, baseline, num_steps=20)
        np.testing.assert_array_equal(as_graph(build, [x, baseline], False), errors)


class TestOtherBuilders:
    @pytest.mark.few(1)
    @BATCHES
    @pytest.mark.parametrize("name", ["mlp", "transformer"])
    def test_every_column_of_a_jacobian_keeps_it(self, name, static):
        network, shape = NETWORKS[name]
        x, baseline = inputs(4, *shape)

        def build(x, baseline):
            return ig.integrated_jacobian(network(x), x, baseline, tolerance=0.01, return_error=True)

        found, errors, steps = as_graph(build, [x, baseline], static)
        assert found.shape == (4, 3, *shape) and errors.shape == (4, 3) and steps.shape == (4,)
        assert (errors <= 0.01).all()
        for c in range(3):
            gradients = tape_gradients(lambda x, c=c: network(x)[:, c])
            (expected,) = brute_force(gradients, [x], [baseline], midpoints(1500))
            assert keeps(found[:, c], expected, 0.01)

    def test_seventeen_columns_keep_it(self):
        """They go backwards in a loop of their own."""
        x, baseline = inputs(3, 12)
        kernel = np.random.RandomState(3).normal(size=(3, 17))

        def build(x, baseline):
            ys = tf.tanh(mlp(x) @ kernel)
            options = dict(tolerance=0.003, return_error=True)
            return ig.integrated_jacobian(ys, x, baseline, **options), ig.integrated_gradients(
                ys[:, 16], x, baseline, num_steps=640
            )

        (found, errors, _), last = as_graph(build, [x, baseline], False)
        assert (errors <= 0.003).all() and keeps(found[:, 16], last, 0.003)

    @pytest.mark.few(2)
    @BATCHES
    @pytest.mark.parametrize("method", ["secant", "gausslegendre", "riemann_left"])
    def test_conductances_keep_it(self, method, static):
        x, baseline = inputs(4, 12)

        def build(x, baseline, **options):
            hidden = tf.tanh(x @ np.random.RandomState(3).normal(size=(12, 12)) / 3)
            options = {"method": method, **options}
            return ig.layer_conductance(mlp(hidden)[:, 1], hidden, x, baseline, **options)

        def refined(x, baseline):
            return build(x, baseline, tolerance=0.02, return_error=True)

        found, errors, steps = as_graph(refined, [x, baseline], static)
        exact = as_graph(lambda *a: build(*a, num_steps=3000, method="gausslegendre"), [x, baseline], static)
        assert (errors <= 0.02).all() and keeps(found, exact, 0.02)
        assert (steps < 640).any()

    def test_several_inputs_share_one_error(self):
        a, b = inputs(4, 6)
        ends = [np.zeros_like(a), np.ones_like(b)]

        def build(a, b):
            ys = mlp(tf.concat([a, b], 1))[:, 1]
            return ig.integrated_gradients(
                ys, {"a": a, "b": b}, {"a": 0.0, "b": 1.0}, tolerance=0.01, return_error=True
            )

        found, errors, _ = as_graph(build, [a, b], False)
        gradients = tape_gradients(lambda a, b: mlp(tf.concat([a, b], 1))[:, 1])
        expected = np.concatenate(brute_force(gradients, [a, b], ends, midpoints(1500)), 1)
        both = np.concatenate([found["a"], found["b"]], 1)
        assert keeps(both, expected, 0.01) and errors.shape == (4,)

    def test_means_over_noise_pass_it_on(self):
        x = inputs(2, 12)[0]

        def build(x, **options):
            return ig.smoothgrad(
                ig.integrated_gradients, mlp(x)[:, 1], x, stdev=0.1, num_samples=2, seed=1, **options
            )

        found = as_graph(lambda x: build(x, tolerance=0.001), [x], False)
        assert_close(found, as_graph(lambda x: build(x, num_steps=640), [x], False), 1e-3)


class TestGraphs:
    def test_a_session_runs_it(self, known):
        network, x, baseline, expected = known["mlp"]
        with tf.Graph().as_default(), v1.Session() as session:
            feed = v1.placeholder(tf.float64, [None, 12])
            start = v1.placeholder(tf.float64, [None, 12])
            y = network(feed)[:, 1]
            nodes = ig.integrated_gradients(y, feed, start, tolerance=0.01, return_error=True)
            before = len(session.graph.get_operations())
            found, errors, steps = session.run(nodes, {feed: x, start: baseline})
            assert len(session.graph.get_operations()) == before
        same = attributed(network, x, baseline, tolerance=0.01)
        assert_close(found, same[0], 1e-9)
        np.testing.assert_array_equal(steps, same[2])
        assert keeps(found, expected, 0.01)

    @pytest.mark.parametrize("name", ["mlp", pytest.param("transformer", marks=pytest.mark.slow)])
    @pytest.mark.parametrize("static", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_it_compiles(self, name, static):
        network, shape = NETWORKS[name]
        x, baseline = inputs(3, *shape)
        signature = [tf.TensorSpec([3 if static else None, *shape], tf.float64)] * 2

        def build(x, baseline):
            return ig.integrated_gradients(
                network(x)[:, 1], x, baseline, tolerance=0.01, num_steps=40, return_error=True
            )

        compiled = tf.function(build, jit_compile=True, input_signature=signature)
        for one, other in zip(compiled(x, baseline), as_graph(build, [x, baseline], static)):
            assert_close(one.numpy(), other, 1e-6)

    def test_its_attributions_have_gradients(self):
        """As of a prior on attributions: beside finite differences."""
        x, baseline = inputs(3, 12)
        kernel = np.random.RandomState(3).normal(size=(12, 4)) / 3

        @tf.function
        def prior(kernel):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                now = tf.convert_to_tensor(x)
                y = tf.reduce_sum(tf.tanh(now @ kernel) ** 2, axis=1)
                maps = ig.integrated_gradients(y, now, baseline, tolerance=0.01, num_steps=40)
                loss = tf.reduce_sum(maps**2)
            return loss, tape.gradient(loss, kernel)

        _, gradient = prior(tf.constant(kernel))
        for at in ((0, 0), (5, 2), (11, 3)):
            step = np.zeros_like(kernel)
            step[at] = 1e-5
            change = (prior(tf.constant(kernel + step))[0] - prior(tf.constant(kernel - step))[0]) / 2e-5
            np.testing.assert_allclose(gradient[at], change, rtol=1e-4)

    def test_a_saved_model_has_it(self, known, tmp_path):
        network, x, baseline, _ = known["transformer"]
        module = tf.Module()

        @tf.function(input_signature=[tf.TensorSpec([None, 5, 8], tf.float64)] * 2)
        def explain(x, baseline):
            return ig.integrated_gradients(network(x)[:, 1], x, baseline, tolerance=0.01)

        module.explain = explain
        tf.saved_model.save(module, str(tmp_path))
        loaded = tf.saved_model.load(str(tmp_path))
        for rows in (1, ROWS):
            same = explain(x[:rows], baseline[:rows])
            assert_close(loaded.explain(x[:rows], baseline[:rows]).numpy(), same.numpy(), 1e-9)

    def test_ops_that_no_loop_can_hold_are_refused(self):
        graph = tf.Graph()
        with graph.as_default():
            v1.disable_control_flow_v2()
            try:
                x = v1.placeholder(tf.float32, [None, 3])
                y = tf.cond(v1.placeholder(tf.bool, []), lambda: tf.tanh(x), lambda: x**2)
                with pytest.raises(ValueError, match=r"a tf.while_loop can hold: op .* \(Switch\)"):
                    ig.integrated_gradients(y, x, tolerance=0.01)
            finally:
                v1.enable_control_flow_v2()


def test_where_gradients_jump_points_have_the_first_order_however_fast_they_seem_to_settle():
    """After a change of 0.1 one of 0.04: as much is left to come, and two thirds of it on a smooth path."""
    estimate = Estimate(Levels([5, 10, 20, 40], 0.01, "gausslegendre"), False, tf.float64)
    gap, last = (tf.constant([change, change], tf.float64) for change in (0.04, 0.1))
    assert_close(
        estimate(3, gap, last, tf.constant([True, False])), np.array([0.04, 0.04 * 0.4 / 0.6]), 1e-12
    )

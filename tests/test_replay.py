"""Explaining tensors of a graph that already exists: values, rows, layers, refusals, what is left behind."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, midpoints, tape_gradients

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1
POINT_RULES = ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid", "gausslegendre"]
METHODS = [*POINT_RULES, "secant"]
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
BOTH = pytest.mark.parametrize("method", ["gausslegendre", "secant"])

RNG = np.random.default_rng(7)
W, W2, OUT = (RNG.normal(scale=0.7, size=size) for size in ((4, 6), (6, 6), (6, 3)))
BIAS = RNG.normal(size=6)
X, BASELINE = RNG.normal(size=(3, 4)), RNG.normal(size=(1, 4))


def smooth(x):
    return tf.nn.softmax(tf.tanh(tf.tanh(x @ W + BIAS) @ W2) @ OUT)


def kinked(x):
    return tf.nn.softmax(tf.nn.relu(tf.nn.relu(x @ W + BIAS) @ W2) @ OUT)


def change(network, x=X, baseline=BASELINE):
    """F(x) - F(baseline) of every output."""
    start = np.broadcast_to(baseline, x.shape)
    return network(tf.constant(x)).numpy() - network(tf.constant(start)).numpy()


def with_baked_in_batch(network):
    """The same numbers from a graph that can run on `B` rows only."""

    def build(x):
        lists = tf.TensorArray(x.dtype, 4, element_shape=[x.shape[0]]).unstack(tf.transpose(x))
        return network(tf.transpose(lists.stack()))

    return build


class TestIntegratedGradients:
    @BATCHES
    @pytest.mark.parametrize("method", POINT_RULES)
    def test_it_equals_the_recipe_on_the_same_network(self, method, static):
        def build(x):
            inter, stepsize, _ = ig.linear_interpolation(x, 7, tf.constant(BASELINE), method)
            recipe = ig.build_ig(inter, stepsize, kinked(inter)[:, 1], 7)
            return recipe, ig.integrated_gradients(kinked(x)[:, 1], x, BASELINE, 7, method, max_rows=9)

        recipe, result = as_graph(build, [X], static)
        assert_close(result, recipe, 1e-12)

    @pytest.mark.parametrize("network", [smooth, kinked])
    @BOTH
    def test_many_steps_converge_to_brute_force_by_fine_midpoints(self, method, network):
        fine = brute_force(tape_gradients(lambda x: network(x)[:, 1]), [X], [BASELINE], midpoints(1000))[0]
        result = as_graph(
            lambda x: ig.integrated_gradients(network(x)[:, 1], x, BASELINE, 400, method), [X], False
        )
        assert_close(result, fine, 5e-6 if network is smooth else 2e-3)

    @pytest.mark.parametrize("steps", [1, 2, 9, 300])
    def test_secant_is_complete_at_any_number_of_steps(self, steps):
        result = as_graph(
            lambda x: ig.integrated_gradients(kinked(x)[:, 1], x, BASELINE, steps, "secant"), [X], False
        )
        np.testing.assert_allclose(result.sum(axis=1), change(kinked)[:, 1], atol=1e-12)

    @pytest.mark.parametrize("network, method", [(smooth, "gausslegendre"), (kinked, "secant")])
    def test_auto_takes_secant_for_networks_with_kinks_only(self, network, method):
        def build(x):
            y = network(x)[:, 1]
            return [ig.integrated_gradients(y, x, BASELINE, 6, m) for m in ("auto", method)]

        auto, chosen = as_graph(build, [X], False)
        np.testing.assert_array_equal(auto, chosen)

    @BATCHES
    @pytest.mark.parametrize("method", ["riemann_trapezoid", "gausslegendre", "secant"])
    def test_the_size_of_a_block_does_not_change_the_numbers(self, method, static):
        def build(x):
            y = kinked(x)[:, 1]
            return [
                ig.integrated_gradients(y, x, BASELINE, 11, method, max_rows=rows) for rows in (None, 6, 35)
            ]

        whole, *blocks = as_graph(build, [X], static)
        for block in blocks:
            assert_close(block, whole, 1e-12)

    @BATCHES
    @BOTH
    def test_several_inputs_share_one_path_and_keep_their_structure(self, method, static):
        xs = {"a": X, "b": RNG.normal(size=(3, 2, 2))}

        def network(a, b):
            return tf.reduce_sum(tf.tanh(a @ W) * (tf.reshape(b, [-1, 4]) @ W), axis=1)

        def build(a, b):
            result = ig.integrated_gradients(
                network(a, b), {"a": a, "b": b}, {"a": tf.constant(BASELINE), "b": 0.3}, 8, method, max_rows=9
            )
            assert sorted(result) == ["a", "b"]
            return result

        result = as_graph(build, [xs["a"], xs["b"]], static)
        steps = gauss_legendre(8 if method == "gausslegendre" else 60)
        expected = brute_force(tape_gradients(network), [xs["a"], xs["b"]], [BASELINE, 0.3], steps)
        for key, values in zip("ab", expected):
            assert_close(result[key], values, 1e-12 if method == "gausslegendre" else 5e-2)
        if method == "secant":
            ends = network(xs["a"], xs["b"]) - network(np.repeat(BASELINE, 3, 0), np.full((3, 2, 2), 0.3))
            np.testing.assert_allclose(result["a"].sum(1) + result["b"].sum((1, 2)), ends, atol=1e-12)

    @BOTH
    def test_weights_of_the_outputs_are_taken_at_x_and_held_fixed(self, method):
        def build(x):
            y = smooth(x)
            return ig.integrated_gradients(y, x, BASELINE, 40, method, grad_ys=y**2)

        weights = smooth(X).numpy() ** 2

        def weighted(x):
            return tf.reduce_sum(smooth(x) * weights, axis=1)

        result = as_graph(build, [X], False)
        expected = brute_force(tape_gradients(weighted), [X], [BASELINE], gauss_legendre(40))[0]
        assert_close(result, expected, 1e-12 if method == "gausslegendre" else 1e-2)
        if method == "secant":
            np.testing.assert_allclose(result.sum(axis=1), change(weighted), atol=1e-12)

    @pytest.mark.parametrize("method, static", [("gausslegendre", True), ("secant", False)])
    def test_one_hot_rows_choose_a_class_per_row(self, method, static):
        def build(x):
            y = smooth(x)
            chosen = ig.integrated_gradients(y, x, None, 5, method, grad_ys=tf.one_hot([2, 0, 1], 3))
            return chosen, *[ig.integrated_gradients(y[:, c], x, None, 5, method) for c in range(3)]

        chosen, *classes = as_graph(build, [X], static)
        assert_close(chosen, np.stack([classes[2][0], classes[0][1], classes[1][2]]), 1e-12)

    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
    @BOTH
    def test_every_floating_dtype_comes_back_as_it_came(self, method, dtype):
        def network(x):
            h = tf.tanh(tf.matmul(x, tf.constant(W, x.dtype)))
            return tf.reduce_sum(tf.matmul(h, tf.constant(OUT, x.dtype)), axis=1)

        @tf.function
        def build(x):
            return ig.integrated_gradients(network(x), x, 0.25, 300, method)

        result = build(tf.cast(X, dtype))
        assert result.dtype == dtype
        rounded = tf.cast(tf.cast(X, dtype), tf.float64).numpy()
        expected = brute_force(tape_gradients(network), [rounded], [0.25], midpoints(1000))[0]
        # Accumulated in its own precision, 300 steps of bfloat16 would be off by tens of percent.
        epsilon = {tf.float16: 2**-10, tf.bfloat16: 2**-7, tf.float32: 2**-17, tf.float64: 2**-20}
        assert_close(tf.cast(result, tf.float64), expected, 8 * epsilon[dtype])

    def test_an_input_that_does_not_matter_gets_zeros(self):
        def build(x):
            other = x * 2
            return ig.integrated_gradients(smooth(x)[:, 0], [x, other], None, 3)[1]

        np.testing.assert_array_equal(as_graph(build, [X], False), np.zeros_like(X))

    @BATCHES
    @BOTH
    def test_a_batch_size_that_is_part_of_the_graph_is_respected(self, method, static):
        network = with_baked_in_batch(smooth)
        result = as_graph(
            lambda x: ig.integrated_gradients(network(x)[:, 1], x, BASELINE, 4, method), [X], static
        )
        if method == "secant":
            np.testing.assert_allclose(result.sum(axis=1), change(smooth)[:, 1], atol=1e-3)
        else:
            expected = brute_force(
                tape_gradients(lambda x: smooth(x)[:, 1]), [X], [BASELINE], gauss_legendre(4)
            )
            assert_close(result, expected[0], 1e-12)

    @BATCHES
    @BOTH
    def test_shapes_that_begin_with_the_size_of_the_batch_follow_it(self, method, static):
        def network(x):
            rows = tf.shape(x)[0]  # a constant where the batch is static
            parts = tf.nn.elu(tf.reshape(tf.reshape(x, [rows, 2, 2]) * 2 - 1, tf.stack([rows, 4])))
            return tf.reduce_sum(tf.reshape(parts, [rows, 2, -1]) ** 2, axis=[1, 2])

        def build(x):
            return ig.integrated_gradients(network(x), x, BASELINE, 400, method)

        expected = brute_force(tape_gradients(network), [X], [BASELINE], midpoints(4000))
        result = as_graph(build, [X], static)
        assert_close(result, expected[0], 1e-4)


def dense_on_sequences(x):
    """What Keras makes of Dense on `[B, T, F]` with an unknown batch: shapes computed in the graph."""
    sequence = tf.tensordot(tf.reshape(x, [-1, 2, 2]), tf.constant(W[:2]), [[2], [0]])
    return tf.reduce_sum(tf.tensordot(tf.tanh(sequence), tf.constant(W2), [[2], [0]]), axis=1)


@BOTH
def test_rows_are_followed_through_shapes_that_the_graph_computes(method):
    obstacles = []

    def build(x):
        y = tf.tanh(dense_on_sequences(x))[:, 1]
        obstacles.append(Subgraph("test", y, x, None).obstacle)
        return ig.integrated_gradients(y, x, BASELINE, 200, method)

    result = as_graph(build, [X], False)
    gradients = tape_gradients(lambda x: tf.tanh(dense_on_sequences(x))[:, 1])
    assert_close(result, brute_force(gradients, [X], [BASELINE], midpoints(4000))[0], 1e-4)
    assert obstacles == [None]  # so blocks hold several steps, and ends of steps are shared


class TestRows:
    """Tensors beside `xs`: one entry per row, or shared by all of them."""

    MASK = (RNG.normal(size=(3, 6)) > 0).astype(np.float64)
    TARGETS = np.array([2, 0, 1], np.int32)

    @staticmethod
    def masked(x, mask):
        return tf.reduce_sum(tf.tanh(x @ W) * mask, axis=1)

    @staticmethod
    def mask_turned_on_the_way(x, mask):
        return tf.reduce_sum(tf.tanh(tf.transpose(x @ W)) * tf.transpose(mask), axis=0)

    @staticmethod
    def gathered(x, targets):
        return tf.gather(smooth(x), targets, batch_dims=1)

    @staticmethod
    def one_hot_of_targets(x, targets):
        return tf.reduce_sum(smooth(x) * tf.one_hot(targets, 3, dtype=x.dtype), axis=1)

    @staticmethod
    def second_input(x, other):
        return tf.reduce_sum(tf.tanh(x @ W + tf.tanh(other)) ** 2, axis=1)

    @staticmethod
    def embedded_ids(x, ids):
        return tf.reduce_sum(tf.tanh(x @ W) * tf.gather(tf.constant(OUT.T), ids), axis=1)

    BESIDE = {
        "masked": MASK,
        "mask_turned_on_the_way": MASK,
        "gathered": TARGETS,
        "one_hot_of_targets": TARGETS,
        "second_input": MASK,
        "embedded_ids": TARGETS,
    }

    @pytest.mark.parametrize(
        "network, method, static",
        [
            *((network, "gausslegendre", static) for network in BESIDE for static in (True, False)),
            ("mask_turned_on_the_way", "secant", False),
            ("gathered", "secant", False),
            ("one_hot_of_targets", "secant", True),
        ],
    )
    def test_arguments_with_one_entry_per_row_are_repeated(self, network, method, static):
        beside = self.BESIDE[network]
        network = getattr(self, network)

        def build(x, beside):
            return ig.integrated_gradients(network(x, beside), x, BASELINE, 6, method, max_rows=9)

        result = as_graph(build, [X, beside], static)

        def alone(x):
            return network(x, tf.constant(beside))

        if method == "secant":
            np.testing.assert_allclose(result.sum(axis=1), change(alone), atol=1e-12)
        steps = gauss_legendre(6 if method == "gausslegendre" else 60)
        expected = brute_force(tape_gradients(alone), [X], [BASELINE], steps)[0]
        assert_close(result, expected, 1e-12 if method == "gausslegendre" else 5e-2)

    @BATCHES
    def test_a_placeholder_beside_xs_is_repeated_in_a_v1_graph(self, static):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [3 if static else None, 4])
            mask = v1.placeholder(tf.float64, [3 if static else None, 6])
            result = ig.integrated_gradients(self.masked(x, mask), x, BASELINE, 6, "gausslegendre")
            values = session.run(result, {x: X, mask: self.MASK})
        alone = tape_gradients(lambda x: self.masked(x, self.MASK))
        assert_close(values, brute_force(alone, [X], [BASELINE], gauss_legendre(6))[0], 1e-12)

    @BATCHES
    def test_tensors_that_all_rows_share_are_left_alone(self, static):
        # As many rows in the batch as units in the layer: only the graph tells them apart.
        x, table = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))
        variable = tf.Variable(table)

        def network(x):
            return tf.reduce_sum(tf.tanh(tf.tanh(x @ table) @ variable) * table[1], axis=1)

        result = as_graph(
            lambda x: ig.integrated_gradients(network(x), x, None, 5, "gausslegendre"), [x], static
        )
        assert_close(result, brute_force(tape_gradients(network), [x], [0.0], gauss_legendre(5))[0], 1e-12)

    @BATCHES
    def test_per_row_leaves_alone_what_only_looks_like_one_entry_per_row(self, static):
        x, table = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))

        def network(x, table):
            return tf.reduce_sum(tf.tanh(tf.tanh(x) @ table), axis=1)

        result = as_graph(
            lambda x, table: ig.integrated_gradients(
                network(x, table), x, None, 5, "gausslegendre", per_row=[]
            ),
            [x, table],
            static,
        )
        expected = brute_force(tape_gradients(lambda x: network(x, table)), [x], [0.0], gauss_legendre(5))[0]
        assert_close(result, expected, 1e-12)

    def test_a_shared_argument_that_looks_like_one_entry_per_row_is_refused_with_per_row(self):
        def build(x, table):
            return ig.integrated_gradients(tf.reduce_sum(tf.tanh(x) @ table, axis=1), x)

        with pytest.raises(
            ValueError, match=r"one entry per row, but op '.*per_row=\[\.\.\.\], \[\] for none"
        ):
            as_graph(build, [RNG.normal(size=(4, 4))] * 2, False)

    @BOTH
    def test_per_row_names_what_cannot_be_detected(self, method):
        def build(x):
            mask = tf.constant(self.MASK)
            y = self.masked(x, mask)
            return ig.integrated_gradients(y, x, BASELINE, 6, method, per_row=[mask], max_rows=9)

        def alone(x):
            return self.masked(x, self.MASK)

        result = as_graph(build, [X], False)
        expected = brute_force(tape_gradients(alone), [X], [BASELINE], gauss_legendre(6))[0]
        assert_close(result, expected, 1e-12 if method == "gausslegendre" else 5e-2)

    def test_rows_do_not_influence_one_another(self):
        whole, part = (
            as_graph(lambda x: ig.integrated_gradients(kinked(x)[:, 0], x, None, 9), [x], False)
            for x in (X, X[1:2])
        )
        assert_close(whole[1:2], part, 1e-12)

    def test_an_empty_batch_gets_empty_attributions(self):
        result = as_graph(lambda x: ig.integrated_gradients(kinked(x)[:, 0], x, None, 9), [X[:0]], False)
        assert result.shape == (0, 4)


class TestIntegratedJacobian:
    @pytest.mark.parametrize(
        "network, units, method, static",
        [
            (smooth, 1, "gausslegendre", False),
            (smooth, 20, "gausslegendre", True),
            (smooth, 20, "gausslegendre", False),
            (kinked, 3, "secant", False),
            (kinked, 20, "secant", True),
            (with_baked_in_batch(smooth), 20, "gausslegendre", True),
            (with_baked_in_batch(smooth), 3, "gausslegendre", False),
            (with_baked_in_batch(kinked), 3, "secant", True),
        ],
    )
    def test_it_equals_one_call_per_output(self, network, units, method, static):
        wide = RNG.normal(size=(3, units))

        def build(x):
            ys = tf.tanh(network(x) @ wide)
            jacobian = ig.integrated_jacobian(ys, x, BASELINE, 4, method)
            assert jacobian.shape.as_list()[1:] == [units, 4]
            picked = sorted({0, units - 1})
            return jacobian, {c: ig.integrated_gradients(ys[:, c], x, BASELINE, 4, method) for c in picked}

        jacobian, single = as_graph(build, [X], static)
        assert jacobian.shape == (3, units, 4)
        for unit, expected in single.items():
            assert_close(jacobian[:, unit], expected, 1e-10)

    def test_several_inputs_get_one_jacobian_each(self):
        def build(a, b):
            ys = tf.stack([a[:, 0] * b[:, 0, 1], b[:, 1, 0]], axis=1)
            return ig.integrated_jacobian(ys, [a, b], None, 3)

        a, b = np.array([[3.0, 5.0]]), np.array([[[1.0, 2.0], [4.0, 6.0]]])
        for_a, for_b = as_graph(build, [a, b], False)
        np.testing.assert_allclose(for_a, [[[3, 0], [0, 0]]], atol=1e-12)
        np.testing.assert_allclose(for_b, [[[[0, 3], [0, 0]], [[0, 0], [4, 0]]]], atol=1e-12)

    @pytest.mark.parametrize(
        "outputs",
        [
            lambda x: v1.placeholder_with_default(x, [None, None]) * x,
            lambda x: x[:, 0],
            lambda x: tf.reshape(x, [-1, 2, 2]),
            lambda x: [x, x * 2],
        ],
    )
    def test_outputs_must_be_rows_of_a_static_number_of_units(self, outputs):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32, [None, None])
            with pytest.raises(ValueError, match=r"\[B, C\] with a static C"):
                ig.integrated_jacobian(outputs(x), x)


class TestLayers:
    """Hidden layers: their own path, and their share of the input's path."""

    @staticmethod
    def layers(x):
        first = tf.nn.relu(x @ W + BIAS)
        second = tf.nn.relu(first @ W2 + first)
        return x, first, second, tf.nn.softmax(second @ OUT)[:, 1]

    @BATCHES
    def test_attributions_to_every_layer_sum_to_the_same_change(self, static):
        def build(x):
            *layers, y = self.layers(x)
            start = tf.zeros_like(x) + BASELINE
            hidden = ig.graph_replace(layers[1:], x, start)
            return [
                ig.integrated_gradients(y, layer, before, 5, "secant")
                for layer, before in zip(layers, [start, *hidden])
            ]

        expected = change(lambda x: self.layers(x)[-1])
        for attributions in as_graph(build, [X], static):
            np.testing.assert_allclose(attributions.sum(axis=1), expected, atol=1e-12)

    @BATCHES
    @pytest.mark.parametrize("index", [1, 2])
    def test_conductances_of_a_layer_sum_to_the_change_exactly_for_secant(self, index, static):
        def build(x):
            layers = self.layers(x)
            return ig.layer_conductance(layers[-1], layers[index], x, BASELINE, 5, "secant", max_rows=9)

        result = as_graph(build, [X], static)
        assert result.shape == (3, 6)
        np.testing.assert_allclose(result.sum(axis=1), change(lambda x: self.layers(x)[-1]), atol=1e-12)

    @pytest.mark.parametrize(
        "method, static",
        [("riemann_left", True), ("riemann_trapezoid", False), ("gausslegendre", False), ("secant", True)],
    )
    def test_conductances_converge_to_their_definition(self, method, static):
        def hidden(x):
            return tf.tanh(x @ W + BIAS)

        def top(h):
            return tf.reduce_sum(tf.tanh(h @ W2), axis=1)

        # Dhamdhere et al., equation 2: the integral of dF/dh * dh/d(alpha), by fine differences.
        def activations(alphas):
            points = [BASELINE + alpha * (X - BASELINE) for alpha in alphas]
            return hidden(tf.constant(np.concatenate(points))).numpy()

        edges = activations(np.linspace(0, 1, 2001)).reshape(2001, 3, 6)
        gradients = tape_gradients(top)([activations([alpha for alpha, _ in midpoints(2000)])])[0]
        expected = (gradients.reshape(2000, 3, 6) * np.diff(edges, axis=0)).sum(axis=0)

        def build(x):
            h = hidden(x)
            return ig.layer_conductance(top(h), h, x, BASELINE, 100, method)

        assert_close(as_graph(build, [X], static), expected, 2e-2)

    def test_several_layers_share_the_change(self):
        def build(x):
            a, b = tf.nn.relu(x[:, :2]), tf.tanh(x[:, 2:])
            return ig.layer_conductance(
                tf.reduce_sum(a, 1) * tf.reduce_sum(b, 1), [a, b], x, 0.5, 4, "secant"
            )

        a, b = as_graph(build, [X], False)

        def network(x):
            return tf.reduce_sum(tf.nn.relu(x[:, :2]), 1) * tf.reduce_sum(tf.tanh(x[:, 2:]), 1)

        expected = change(network, baseline=np.full((1, 4), 0.5))
        np.testing.assert_allclose(a.sum(axis=1) + b.sum(axis=1), expected, atol=1e-12)

    @pytest.mark.parametrize("through", [tf.identity, lambda h: tf.nn.relu(h) + h, lambda h: h])
    def test_a_layer_that_another_one_cuts_off_is_refused(self, through):
        def build(x):
            first = tf.nn.relu(x, name="first")
            second = through(first)
            return ig.layer_conductance(tf.reduce_sum(second, 1), {"a": second, "b": first}, x)

        with pytest.raises(
            ValueError, match="layer has .* 'first:0' again or all that ys has of it.*once for each"
        ):
            as_graph(build, [np.ones([2, 3], np.float32)], False)

    def test_layers_of_which_one_gives_another_no_more_than_its_shape_share_the_change(self):
        def build(x):
            first = tf.nn.relu(x[:, :2])
            second = tf.tanh(x[:, 2:]) + tf.zeros_like(first)
            return ig.layer_conductance(tf.reduce_sum(first * second, 1), [first, second], x, num_steps=20)

        one, other = as_graph(build, [np.array([[1.0, 2.0, 0.5, -1.0]])], True)
        change = np.tanh([[0.5, -1.0]]) * [[1.0, 2.0]]
        np.testing.assert_allclose(one + other, change, atol=1e-12)
        assert np.abs(one).min() > 0.1 and np.abs(other).min() > 0.1

    def test_a_layer_apart_from_the_input_is_refused(self):
        def build(x, other):
            h = tf.tanh(other)
            return ig.layer_conductance(tf.reduce_sum(x * h, axis=1), h, x)

        with pytest.raises(ValueError, match="layer_conductance.*layer"):
            as_graph(build, [X, X], False)


class TestConvergenceDelta:
    @BATCHES
    def test_it_is_the_sum_of_attributions_minus_the_change_of_the_output(self, static):
        def build(x):
            y = kinked(x)[:, 1]
            parts = ig.integrated_gradients(y, x, BASELINE, 2, "riemann_left")
            return parts, ig.convergence_delta(y, x, BASELINE, parts)

        parts, delta = as_graph(build, [X], static)
        np.testing.assert_allclose(delta, parts.sum(axis=1) - change(kinked)[:, 1], atol=1e-12)
        assert np.abs(delta).max() > 1e-3

    def test_it_weights_outputs_and_sums_over_inputs(self):
        def build(a, b):
            y = tf.stack([a[:, 0] ** 2, b[:, 0]], axis=1)
            return ig.convergence_delta(y, [a, b], 1.0, [a, b], grad_ys=tf.constant([[2.0, 3.0]], a.dtype))

        # 5 + 7 - (2 * (25 - 1) + 3 * (7 - 1))
        delta = as_graph(build, [np.array([[5.0]]), np.array([[7.0]])], True)
        np.testing.assert_allclose(delta, [12 - 66])

    def test_attributions_must_look_like_xs(self):
        with pytest.raises(ValueError, match=r"convergence_delta: attributions have shape"):
            as_graph(lambda x: ig.convergence_delta(x[:, 0], x, None, x[:, :2]), [X], False)


class TestGraphReplace:
    @BATCHES
    @pytest.mark.parametrize("copies", [1, 3])
    def test_it_runs_the_network_again_on_other_values(self, copies, static):
        other = RNG.normal(size=(3 * copies, 4))
        result = as_graph(lambda x: ig.graph_replace(kinked(x), x, tf.constant(other)), [X], static)
        np.testing.assert_allclose(result, kinked(tf.constant(other)), atol=1e-12)

    def test_it_returns_the_structure_of_ys(self):
        def build(x):
            y = tf.tanh(x)
            return ig.graph_replace({"y": y, "pair": (y * 2, x)}, x, tf.zeros_like(x) + 1)

        result = as_graph(build, [X], False)
        np.testing.assert_allclose(result["y"], np.full((3, 4), np.tanh(1)))
        np.testing.assert_allclose(result["pair"][0], np.full((3, 4), 2 * np.tanh(1)))
        np.testing.assert_array_equal(result["pair"][1], np.ones((3, 4)))

    def test_it_works_inside_the_body_of_a_while_loop(self):
        def build(x):
            y = smooth(x)

            def body(i, total):
                return i + 1, total + ig.graph_replace(y, x, x * tf.cast(i, x.dtype))

            return tf.while_loop(lambda i, _: i < 4, body, (0, tf.zeros_like(y)))[1]

        expected = sum(smooth(tf.constant(X * i)).numpy() for i in range(4))
        np.testing.assert_allclose(as_graph(build, [X], False), expected, atol=1e-12)

    def test_weights_are_shared(self):
        weights = tf.Variable(W)

        @tf.function
        def build(x):
            y = tf.tanh(x @ weights)
            again = ig.graph_replace(y, x, x * 2)
            return tf.gradients(again, weights.handle)[0], again

        gradient, before = build(tf.constant(X))
        np.testing.assert_allclose(gradient, (2 * X).T @ (1 - np.tanh(2 * X @ W) ** 2), atol=1e-12)
        np.testing.assert_allclose(before, np.tanh(2 * X @ W), atol=1e-12)
        weights.assign(2 * W)
        np.testing.assert_allclose(build(tf.constant(X))[1], np.tanh(4 * X @ W), atol=1e-12)

    def test_ids_may_be_replaced(self):
        result = as_graph(
            lambda ids: ig.graph_replace(tf.gather(tf.constant(W), ids), ids, ids + 1),
            [np.array([0, 2])],
            False,
        )
        np.testing.assert_array_equal(result, W[[1, 3]])

    def test_tensors_with_one_entry_per_row_are_repeated(self):
        def build(x, targets):
            return ig.graph_replace(TestRows.gathered(x, targets), x, tf.concat([x, 2 * x], 0))

        result = as_graph(build, [X, TestRows.TARGETS], False)
        both = smooth(tf.constant(np.concatenate([X, 2 * X]))).numpy()
        np.testing.assert_allclose(result, both[np.arange(6), np.tile(TestRows.TARGETS, 2)])

    @pytest.mark.parametrize(
        "replacement, error, message",
        [
            (lambda x: [x], ValueError, "graph_replace: replacements has the structure"),
            (lambda x: tf.cast(x, tf.float32), TypeError, "dtype float64"),
            (lambda x: x[:, :2], ValueError, r"has shape \(3, 2\), expected"),
            (lambda x: tf.zeros([4, 4], x.dtype), ValueError, "4 rows, expected a multiple of 3"),
            (lambda x: 1.0, TypeError, "expected a tensor"),
        ],
    )
    def test_replacements_that_do_not_fit_are_refused(self, replacement, error, message):
        with pytest.raises(error, match=message):
            as_graph(lambda x: ig.graph_replace(smooth(x), x, replacement(x)), [X], True)

    def test_more_rows_than_a_baked_in_batch_size_allows_are_refused_with_the_op(self):
        def build(x):
            return ig.graph_replace(with_baked_in_batch(smooth)(x), x, tf.concat([x, x], 0))

        with pytest.raises(ValueError, match="6 rows and the batch size 3 is part of the graph"):
            as_graph(build, [X], True)


class TestWhatIsLeftBehind:
    CALLS = {
        "integrated_gradients": lambda y, x: ig.integrated_gradients(y, x, 0.5, 9, max_rows=9),
        "integrated_jacobian": lambda y, x: ig.integrated_jacobian(y, x, 0.5, 9, max_rows=12),
        "layer_conductance": lambda y, x: ig.layer_conductance(y, y.op.inputs[0], x, None, 4),
        "convergence_delta": lambda y, x: ig.convergence_delta(y, x, None, x),
        "graph_replace": lambda y, x: ig.graph_replace(y, x, x * 2),
    }

    @staticmethod
    def graph():
        x = v1.placeholder(tf.float64, [None, 4], "x")
        weights = v1.get_variable("weights", initializer=W, use_resource=True)
        return x, tf.nn.softmax(tf.nn.relu(x @ weights + BIAS) @ OUT)

    @pytest.mark.parametrize("call", CALLS)
    def test_no_variable_placeholder_collection_or_seed_is_added(self, call):
        with tf.Graph().as_default() as graph:
            x, y = self.graph()
            before = len(graph.get_operations())
            collections = {
                key: list(graph.get_collection_ref(key)) for key in graph.get_all_collection_keys()
            }
            self.CALLS[call](y, x)
            kinds = {op.type for op in graph.get_operations()[before:]}
            assert kinds and not kinds & {
                "Placeholder",
                "PlaceholderWithDefault",
                "VarHandleOp",
                "VariableV2",
            }
            assert {
                key: list(graph.get_collection_ref(key)) for key in graph.get_all_collection_keys()
            } == collections
            assert graph.seed is None

    @pytest.mark.parametrize("call", CALLS)
    def test_every_call_adds_the_same_number_of_ops(self, call):
        with tf.Graph().as_default() as graph:
            x, y = self.graph()
            sizes = [len(graph.get_operations())]
            for _ in range(20 if call == "integrated_gradients" else 6):
                self.CALLS[call](y, x)
                sizes.append(len(graph.get_operations()))
        assert len(set(np.diff(sizes))) == 1

    @pytest.mark.parametrize("call", [name for name in CALLS if name != "graph_replace"])
    def test_all_names_of_a_call_sit_under_one_scope(self, call):
        with tf.Graph().as_default() as graph:
            x, y = self.graph()
            for scope in (call, f"{call}_1"):
                before = len(graph.get_operations())
                self.CALLS[call](y, x)
                names = [op.name for op in graph.get_operations()[before:]]
                assert [name for name in names if not name.startswith(f"{scope}/")] == []

    def test_a_name_of_ones_own_is_used(self):
        with tf.Graph().as_default():
            x, y = self.graph()
            assert ig.integrated_gradients(y, x, name="why").name.startswith("why/")

    @pytest.mark.parametrize("call", CALLS)
    def test_the_users_own_tensors_keep_their_values(self, call):
        with tf.Graph().as_default(), v1.Session() as session:
            x, y = self.graph()
            session.run(v1.global_variables_initializer())
            before, gradient = session.run([y, tf.gradients(y[:, 0], x)[0]], {x: X})
            added = self.CALLS[call](y, x)
            after, again, _ = session.run([y, tf.gradients(y[:, 0], x)[0], added], {x: X})
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(again, gradient)


class TestRefusals:
    """What cannot be explained is refused: what came in, what was expected, what to do."""

    @staticmethod
    def refused(build, arrays, static, error, message):
        with pytest.raises(error, match=message):
            as_graph(build, arrays, static)

    @BATCHES
    @pytest.mark.parametrize(
        "build, error, message",
        [
            (
                lambda x: ig.integrated_gradients(tf.tanh(x * 2), x * 2),
                ValueError,
                "no path leads from.*Pass the very tensor",
            ),
            (
                lambda x: ig.integrated_gradients(tf.stop_gradient(x) * 2, x),
                ValueError,
                "no gradient flows.*stop_gradient",
            ),
            (
                lambda x: ig.integrated_gradients(tf.cast(tf.argmax(x, 1), tf.float64), x),
                ValueError,
                "no gradient flows.*argmax",
            ),
            (
                lambda x: ig.integrated_gradients(tf.gather(W, tf.cast(x[:, 0], tf.int32)), x),
                ValueError,
                "(?s)integers.*embedding's output",
            ),
            (
                lambda x: ig.integrated_gradients(tf.gather(W, tf.argmax(x, 1)), tf.argmax(x, 1)),
                TypeError,
                "dtype int64.*embedding's output",
            ),
            (
                lambda x: ig.integrated_gradients(tf.reduce_sum(smooth(x)), x),
                ValueError,
                "is a scalar, expected.*one entry per row",
            ),
            (
                lambda x: ig.integrated_gradients(tf.reduce_mean(smooth(x), axis=0), x),
                ValueError,
                "mixes the rows",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), tf.reduce_sum(x)),
                ValueError,
                r"is a scalar, expected \[B, ...\]",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.ones([3, 2], x.dtype)),
                ValueError,
                r"grad_ys has shape \(3, 2\), expected \((3|None), 3\)",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.ones([3], x.dtype)),
                ValueError,
                r"grad_ys has shape \(3,\), expected",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.constant([[0, 1, 0]])),
                TypeError,
                "grad_ys has dtype int32.*tf.cast",
            ),
            (
                lambda x: ig.integrated_gradients([smooth(x)], x, grad_ys={"a": smooth(x)}),
                ValueError,
                "grad_ys has the structure",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, max_rows=0),
                ValueError,
                "max_rows is 0, expected at least",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, max_rows=2.5),
                TypeError,
                "max_rows is 2.5 of type float",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, baselines=tf.zeros([1, 5], x.dtype)),
                ValueError,
                "broadcasts to",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, method="simpson"),
                ValueError,
                "simpson.*secant",
            ),
            (lambda x: ig.integrated_gradients(smooth(x), x, num_steps=0), ValueError, "num_steps is 0"),
            (lambda x: ig.integrated_gradients(smooth(x), x, num_steps=2.0), TypeError, "num_steps is 2.0"),
            (lambda x: ig.integrated_gradients(smooth(x), x, per_row=x), TypeError, "per_row is a .*list"),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, per_row=[tf.zeros([])]),
                ValueError,
                "per_row holds",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_with_the_way_out(self, build, error, message, static):
        self.refused(build, [X], static, error, message)

    @pytest.mark.parametrize("method, rows", [("gausslegendre", 2), ("secant", 5)])
    def test_blocks_smaller_than_a_batch_are_refused(self, method, rows):
        self.refused(
            lambda x: ig.integrated_gradients(smooth(x), x, method=method, max_rows=rows),
            [X],
            True,
            ValueError,
            f"max_rows is {rows}, expected at least {rows + 1}",
        )

    @BATCHES
    @pytest.mark.parametrize("shape", [(4,), (4, 4, 2)], ids=["dense", "image"])
    def test_batch_norm_in_training_mode_is_refused_with_its_op(self, shape, static):
        layer = tf.keras.layers.BatchNormalization()
        x = RNG.normal(size=(3, *shape)).astype(np.float32)
        layer(x)

        def build(x):
            return ig.integrated_gradients(layer(x, training=True), x)

        self.refused(build, [x], static, ValueError, "op '.*mixes the rows.*training=False")
        assert as_graph(lambda x: ig.integrated_gradients(layer(x, training=False), x), [x], static).any()

    @BATCHES
    def test_dropout_that_is_on_is_refused_with_its_op(self, static):
        layer = tf.keras.layers.Dropout(0.5)

        def build(x):
            return ig.integrated_gradients(tf.tanh(layer(tf.tanh(x), training=True)), x)

        self.refused(build, [X], static, ValueError, "random.*op '.*training=False")

    @BATCHES
    @pytest.mark.parametrize("noise", [tf.random.normal, tf.random.uniform])
    def test_noise_is_refused(self, noise, static):
        def build(x):
            return ig.integrated_gradients(tf.tanh(x) * noise(tf.shape(x), dtype=x.dtype), x)

        self.refused(build, [X], static, ValueError, "random.*op '")

    def test_randomly_initialised_weights_are_not_noise(self):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [None, 4])
            for resource in (True, False):
                shape = dict(shape=[4], dtype=tf.float64, initializer=v1.random_normal_initializer())
                w = v1.get_variable(f"w{resource}", use_resource=resource, **shape)
                result = ig.integrated_gradients(x * w, x)
                session.run(v1.global_variables_initializer())
                assert_close(*session.run([result, x * w], {x: X}), 1e-12)

    @pytest.mark.parametrize(
        "call",
        [
            lambda y, x: ig.integrated_gradients(y, x),
            lambda y, x: ig.integrated_jacobian(y, x),
            lambda y, x: ig.layer_conductance(y, x, x),
            lambda y, x: ig.convergence_delta(y, x, None, x),
            lambda y, x: ig.graph_replace(y, x, x),
        ],
    )
    def test_eager_and_keras_tensors_are_refused_with_the_way_out(self, call):
        eager = tf.constant(X)
        with pytest.raises(TypeError, match="eager.*tf.function"):
            call(smooth(eager), eager)
        symbol = tf.keras.Input([4])
        with pytest.raises(TypeError, match="KerasTensor.*tf.function"):
            call(tf.keras.layers.Dense(3)(symbol), symbol)

    def test_a_tensor_of_a_finished_graph_is_refused(self):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float64, [None, 4])
            y = smooth(x)
        with pytest.raises(TypeError, match="outside its graph"):
            ig.integrated_gradients(y, x)


class TestTraining:
    """Attributions in a loss: their gradient with respect to weights, against finite differences."""

    @staticmethod
    def mlp(x, w):
        return tf.nn.softmax(tf.nn.relu(tf.tanh(x @ w[:4]) @ W2 + x @ w[:4]) @ OUT)[:, 1]

    @staticmethod
    def pooled(x, w):
        image = tf.reshape(tf.pad(x, [[0, 0], [0, 12]]), [-1, 4, 4, 1])
        image += tf.reshape(x, [-1, 1, 4, 1]) * tf.reshape(x, [-1, 4, 1, 1])
        h = tf.nn.relu(tf.nn.conv2d(image, tf.reshape(w, [2, 2, 1, 6]), 1, "SAME"))
        return tf.reduce_sum(tf.nn.max_pool2d(h, 2, 2, "VALID") ** 2, axis=[1, 2, 3])

    @staticmethod
    def elementwise(x, w):
        h = x @ w
        parts = [
            tf.nn.elu(h),
            tf.nn.leaky_relu(h),
            tf.abs(h),
            tf.sqrt(1 + h**2),
            tf.maximum(h, 0.3),
            tf.exp(h / 9),
        ]
        return tf.reduce_sum(tf.add_n(parts) / (2 + tf.sin(h)), axis=1)

    @staticmethod
    def attention(x, w):
        h = x[:, :, None] * w[None]
        scores = tf.nn.softmax(tf.matmul(h, h, transpose_b=True) / 2)
        return tf.reduce_sum(tf.tanh(tf.matmul(scores, h)), axis=[1, 2])

    @pytest.mark.parametrize(
        "network, method, max_rows, static",
        [
            ("mlp", "gausslegendre", None, True),
            ("mlp", "gausslegendre", 7, False),
            ("pooled", "gausslegendre", 7, True),
            ("elementwise", "gausslegendre", None, False),
            ("attention", "gausslegendre", 7, False),
            ("mlp", "secant", 7, True),
            ("pooled", "secant", None, False),
            ("attention", "secant", 7, False),
        ],
    )
    def test_the_gradient_of_an_attribution_equals_finite_differences(
        self, network, method, max_rows, static
    ):
        network = getattr(self, network)
        coefficients = RNG.normal(size=(3, 4))
        direction = RNG.normal(size=(4, 6))
        signature = [tf.TensorSpec([3 if static else None, 4], tf.float64), tf.TensorSpec([4, 6], tf.float64)]

        @tf.function(input_signature=signature, autograph=False)
        def loss_and_gradient(x, w):
            parts = ig.integrated_gradients(
                network(x, w), x, BASELINE, 3, method, max_rows=max_rows, per_row=[]
            )
            loss = tf.reduce_sum(parts * coefficients)
            return loss, tf.gradients(loss, w)[0]

        gradient = loss_and_gradient(X, W)[1]
        step = 1e-5
        ahead, behind = (loss_and_gradient(X, W + s * direction)[0] for s in (step, -step))
        expected = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(tf.reduce_sum(gradient * direction), expected, rtol=1e-5, atol=1e-7)


class TestPathGradients:
    @BATCHES
    def test_gradients_and_outputs_at_every_point(self, static):
        xs = {"a": X, "b": X[:, :2] * 2}

        def network(a, b):
            return smooth(a) * tf.reduce_sum(b**2, axis=1, keepdims=True)

        def build(a, b):
            weights = tf.constant([[1.0, -2, 0], [0, 1, 0], [3, 0, 1]], tf.float64)
            ys = network(a, b)
            return ig.path_gradients(ys, {"a": a, "b": b}, 0.5, 4, grad_ys=weights)

        gradients, outputs, alphas = as_graph(build, [xs["a"], xs["b"]], static)
        np.testing.assert_allclose(alphas, [0, 1 / 3, 2 / 3, 1])
        assert gradients["a"].shape == (4, 3, 4) and gradients["b"].shape == (4, 3, 2)
        weights = np.array([[1.0, -2, 0], [0, 1, 0], [3, 0, 1]])
        slopes = tape_gradients(lambda a, b: network(a, b) * weights)
        for s, alpha in enumerate(alphas):
            point = [0.5 + alpha * (x - 0.5) for x in xs.values()]
            for key, expected in zip(xs, slopes(point)):
                assert_close(gradients[key][s], expected, 1e-12)
            assert_close(outputs[s], np.sum(network(*point).numpy() * weights, axis=1), 1e-12)

    def test_the_trapezoid_over_them_is_the_attribution(self):
        def build(x):
            ys = smooth(x)[:, 1]
            gradients = ig.path_gradients(ys, x, BASELINE, 6)[0]
            return gradients, ig.integrated_gradients(ys, x, BASELINE, 6, "riemann_trapezoid")

        gradients, expected = as_graph(build, [X], False)
        mean = (gradients[0] / 2 + gradients[1:-1].sum(axis=0) + gradients[-1] / 2) / 5
        assert_close(mean * (X - BASELINE), expected, 1e-12)

    def test_a_mask_beside_is_read_for_its_own_row(self):
        def build(x, mask):
            return ig.path_gradients(tf.reduce_sum(tf.tanh(x) * mask, axis=1), x, None, 3)[0]

        mask = RNG.normal(size=(3, 4))
        gradients = as_graph(build, [X, mask], False)
        for s, alpha in enumerate([0, 0.5, 1]):
            assert_close(gradients[s], mask * (1 - np.tanh(alpha * X) ** 2), 1e-12)

    def test_branches_of_tensorflow_1(self):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [None, 4])
            v1.disable_control_flow_v2()
            try:
                ys = v1.cond(v1.placeholder_with_default(True, []), lambda: tf.sin(x), lambda: x)
            finally:
                v1.enable_control_flow_v2()
            gradients = session.run(ig.path_gradients(ys, x, None, 3)[0], {x: X})
        assert_close(gradients, np.cos(np.array([0, 0.5, 1])[:, None, None] * X), 1e-12)

    @pytest.mark.parametrize("steps, error", [(1, ValueError), (0, ValueError), (2.5, TypeError)])
    def test_both_ends_are_needed(self, steps, error):
        with pytest.raises(error, match="path_gradients: num_steps"):
            as_graph(lambda x: ig.path_gradients(smooth(x), x, None, steps)[0], [X], False)

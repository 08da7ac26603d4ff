"""Explaining tensors of a graph that already exists: values, and what is left behind in the graph."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, midpoints, tape_gradients
from shared_networks import (
    BASELINE,
    BATCHES,
    BIAS,
    BOTH,
    OUT,
    RNG,
    RULES,
    W,
    X,
    change,
    kinked,
    smooth,
    with_baked_in_batch,
)

import igtf as ig

v1 = tf.compat.v1


class TestIntegratedGradients:
    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize("method", RULES)
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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

    @pytest.mark.thin
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


class TestIntegratedJacobian:
    @pytest.mark.few(4)
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

    @pytest.mark.few(3)
    @pytest.mark.parametrize("call", CALLS)
    def test_every_call_adds_the_same_number_of_ops(self, call):
        with tf.Graph().as_default() as graph:
            x, y = self.graph()
            sizes = [len(graph.get_operations())]
            for _ in range(6):
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

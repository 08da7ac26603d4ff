"""Hidden layers: conductances, and attributions to a layer itself."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, assert_same, midpoints, tape_gradients
from shared_networks import BASELINE, BATCHES, BIAS, OUT, W2, W, X, change

import igtf as ig


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

    @pytest.mark.thin
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


@pytest.mark.parametrize("method", ["gausslegendre", "secant"])
def test_conductances_of_a_layer_and_the_next_do_not_count_a_path_twice(method):
    random = np.random.RandomState(0)
    w, v = (tf.constant(random.normal(size=(4, 4))) for _ in range(2))
    xs, bs = [random.normal(size=(3, 4))], [random.normal(size=(3, 4))]

    def build(xs, bs):
        first = tf.tanh(xs[0] @ w)
        second = tf.sigmoid(first @ v)
        direct, through = tf.reduce_sum(tf.sin(first), 1), tf.reduce_sum(second**2, 1)

        def conductance(ys, layer):
            return ig.layer_conductance(ys, layer, xs, bs, num_steps=7, method=method)

        return conductance(direct + through, [first, second]), [
            conductance(direct, first),
            conductance(through, second),
        ]

    together, apart = as_graph(lambda x, b: build([x], [b]), xs + bs, True)
    assert_same(together, apart, 1e-12)


class TestUnits:
    """What inputs contribute through single units of a layer."""

    @staticmethod
    def layers(x):
        hidden = tf.nn.relu(tf.nn.tanh(x @ W + BIAS) @ W2)
        return hidden, tf.nn.softmax(hidden @ OUT)[:, 1]

    @staticmethod
    def expected(unit, steps=3000):
        """The integral of the product of two gradients, one step after the other."""
        total = 0.0

        @tf.function
        def product(point):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(point)
                hidden, y = TestUnits.layers(point)
                one = hidden[:, unit]
            return tape.gradient(y, hidden)[:, unit, None] * tape.gradient(one, point)

        for alpha, weight in midpoints(steps):
            total = total + weight * product(tf.constant(BASELINE + alpha * (X - BASELINE))).numpy()
        return total * (X - BASELINE)

    @pytest.mark.few(1)
    @BATCHES
    @pytest.mark.parametrize("method", ["auto", "gausslegendre"])
    def test_it_is_the_product_of_both_gradients(self, method, static):
        def build(x):
            hidden, y = self.layers(x)
            return [
                ig.neuron_conductance(y, hidden[:, unit], x, BASELINE, 200, method, max_rows=30)
                for unit in (0, 4)
            ]

        for unit, found in zip((0, 4), as_graph(build, [X], static)):
            assert_close(found, self.expected(unit), 1e-3 if method == "auto" else 1e-2)

    @pytest.mark.few(2)
    @pytest.mark.parametrize("method", ["secant", "gausslegendre"])
    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_all_units_of_any_layer_together_give_integrated_gradients(self, method, which):
        def build(x):
            layers = TestLayers.layers(x)
            h, y = (x @ W if which == 0 else layers[which]), layers[-1]
            if which == 0:
                y = tf.reduce_sum(tf.nn.relu(h) ** 2, 1)
            units = [ig.neuron_conductance(y, h[:, i], x, BASELINE, 7, method) for i in range(6)]
            whole = ig.neuron_conductance(y, h, x, BASELINE, 7, method)
            return tf.add_n(units), whole, ig.integrated_gradients(y, x, BASELINE, 7, method)

        units, whole, together = as_graph(build, [X], True)
        assert_close(units, together, 1e-12)
        assert_close(whole, together, 1e-12)

    def test_over_the_inputs_it_is_the_conductance_of_the_unit(self):
        def build(x):
            hidden, y = self.layers(x)
            units = [ig.neuron_conductance(y, hidden[:, i], x, BASELINE, 9, "secant") for i in range(6)]
            layer = ig.layer_conductance(y, hidden, x, BASELINE, 9, "secant")
            return tf.reduce_sum(tf.stack(units, 1), 2), layer

        assert_close(*as_graph(build, [X], False), 1e-12)

    def test_a_tolerance_is_kept_and_rows_that_leave_take_their_entries_with_them(self):
        def build(x, number):
            hidden, y = self.layers(x)
            unit = tf.gather(hidden, number, batch_dims=1)
            return ig.neuron_conductance(y, unit, x, BASELINE, tolerance=0.01, return_error=True)

        number = np.array([1, 4, 5])
        found, errors, _ = as_graph(build, [X, number], False)
        assert (errors <= 0.01).all()
        for row, unit in enumerate(number):
            expected = self.expected(unit)[row]
            assert np.abs(found[row] - expected).sum() <= 0.01 * np.abs(expected).sum()

    def test_what_is_no_hidden_unit_is_refused(self):
        def build(x, choose):
            hidden, y = self.layers(x)
            return ig.neuron_conductance(y, choose(x, hidden, y), x)

        for choose in (lambda x, h, y: x[:, 0], lambda x, h, y: h[:, 0] * 2):
            with pytest.raises(ValueError, match="expected entries of a hidden tensor"):
                as_graph(lambda x, c=choose: build(x, c), [X], True)
        with pytest.raises(TypeError, match="unit"):
            as_graph(lambda x: build(x, lambda x, h, y: np.ones(3)), [X], True)

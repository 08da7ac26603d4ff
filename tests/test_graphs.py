"""Every kind of graph and network that people bring, beside brute force and completeness."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from reference import (
    as_graph,
    assert_close,
    brute_force,
    gauss_legendre,
    midpoints,
    randomize,
    tape_gradients,
)
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import igtf as ig

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(11)
W, U, OUT = (RNG.normal(scale=0.6, size=size) for size in ((3, 4), (4, 4), (4, 3)))
FLAG = tf.Variable(True)


# Networks -------------------------------------------------------------------------------------------


def sequence(*layers):
    """A Keras model as a function of the Keras module to take it from."""

    def make(keras, shape):
        return keras.Sequential([keras.Input(shape), *(layer(keras.layers) for layer in layers)])

    return make


def residual(keras, shape):
    x = keras.Input(shape)
    h = keras.layers.Conv2D(2, 3, padding="same", activation="relu")(x)
    h = keras.layers.ReLU()(keras.layers.Add()([h, x]))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(h)))


def attention(keras, shape):
    x = keras.Input(shape)
    h = keras.layers.MultiHeadAttention(2, 3)(x, x)
    h = keras.layers.LayerNormalization()(keras.layers.Add()([h, x]))
    return keras.Model(x, keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling1D()(h)))


def condition(x):
    h = tf.nn.relu(x @ W)
    h = tf.cond(FLAG, lambda: tf.tanh(h @ U), lambda: h)
    return tf.nn.softmax(h @ OUT)


def while_loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.tanh(h @ U)), (0, x @ W))[1] @ OUT


def map_fn(x):
    return tf.map_fn(lambda row: tf.nn.relu(tf.linalg.matvec(U, row)) * row, x @ W) @ OUT


def nested_loops(x):
    def inner(h):
        return tf.while_loop(lambda i, _: i < 2, lambda i, g: (i + 1, tf.nn.relu(g @ U) + 0.3 * h), (0, h))[1]

    return tf.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, inner(h)), (0, x @ W))[1] @ OUT


def loop_that_hands_on(x):
    """Variables that change places, one that grows, and one that an even number of rounds leaves out."""

    def body(i, a, b, c, all_of_them):
        return i + 1, b, c, tf.nn.relu(a @ U + 0.3 * c), tf.concat([all_of_them, b], 1)

    h = x @ W
    shapes = (tf.TensorShape([]), h.shape, h.shape, h.shape, tf.TensorShape([None, None]))
    loop = tf.while_loop(lambda i, *_: i < 4, body, (0, h, tf.tanh(h), h**2, h), shapes)
    return (loop[1] + 2 * loop[2] + loop[4][:, -4:]) @ OUT


def loop_that_writes_an_array(x):
    def body(i, h, array):
        return i + 1, tf.nn.relu(h @ U) + 0.1, array.write(i, h**2)

    h = x @ W
    _, h, array = tf.while_loop(lambda i, *_: i < 4, body, (0, h, tf.TensorArray(h.dtype, 4)))
    return (h + array.read(3) * array.read(1)) @ OUT


def loop_that_reads_its_array(x):
    def body(i, array):
        return i + 1, array.write(i, tf.tanh(array.read(i - 1) @ U))

    h = x @ W
    array = tf.TensorArray(h.dtype, 4, clear_after_read=False).write(0, h)
    return tf.while_loop(lambda i, _: i < 4, body, (1, array))[1].read(3) @ OUT


def time_major(x):
    x = tf.transpose(x, [1, 0, 2])
    h = tf.zeros_like(x[0]) @ W
    for step in tf.unstack(x):
        h = tf.tanh(step @ W + h @ U)
    return h @ OUT


def time_major_scan(x):
    x = tf.transpose(x, [1, 0, 2])
    h = tf.scan(lambda h, step: tf.tanh(step @ W + h @ U), x, tf.zeros_like(x[0]) @ W)
    return h[-1] @ OUT


def time_major_relu(x):
    h = tf.nn.relu(tf.tensordot(tf.tanh(tf.transpose(x, [1, 0, 2])), W, 1))
    return tf.reduce_sum(h**2, axis=0) @ OUT


def rows_times_steps(x):
    h = tf.nn.relu(tf.reshape(tf.tanh(x), [-1, 3]) @ W)
    return tf.reshape(h**2, [-1, x.shape[1] * 4]) @ np.tile(OUT, (x.shape[1], 1))


def log_sum_exp(x):
    h = tf.tanh(x @ W)
    return tf.stack([tf.reduce_logsumexp(h * c, axis=1) for c in (1, 2, 3)], axis=1)


def two_inputs(keras):
    image, side = keras.Input((5, 5, 2)), keras.Input((4,))
    h = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, activation="relu")(image))
    h = keras.layers.Concatenate()([h, keras.layers.Dense(3, "tanh")(side)])
    h = keras.layers.Dense(3, "softmax")(keras.layers.Dense(4, "relu")(h))
    return keras.Model([image, side], h)


# name -> (smallest size of an image, size of its entries, gain of a layer, whether secant is checked too)
APPLICATIONS = {
    "MobileNetV2": (32, 1.0, 1.0, False),
    "ResNet50": (32, 1.0, 1.0, True),
    "EfficientNetB0": (32, 127.0, 1.2, False),
    "InceptionV3": (75, 1.0, 1.0, False),
}

# name -> (shape of a row, model of Keras, whether secant is complete at any number of steps)
KERAS = {
    "LSTM": ((3, 3), sequence(lambda k: k.LSTM(3), lambda k: k.Dense(3)), True),
    "unrolled LSTM": ((3, 3), sequence(lambda k: k.LSTM(3, unroll=True), lambda k: k.Dense(3)), True),
    "GRU": ((3, 3), sequence(lambda k: k.GRU(3), lambda k: k.Dense(3)), True),
    "attention": ((4, 6), attention, True),
    "residual": ((5, 5, 2), residual, True),
    "batch norm": (
        (6, 6, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, use_bias=False),
            lambda k: k.BatchNormalization(),
            lambda k: k.ReLU(),
            lambda k: k.MaxPooling2D(),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3, "softmax"),
        ),
        True,
    ),
    "depthwise": (
        (5, 5, 2),
        sequence(
            lambda k: k.DepthwiseConv2D(3, padding="same", activation="relu"),
            lambda k: k.AveragePooling2D(2),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3, "tanh"),
        ),
        True,
    ),
    "separable": (
        (5, 5, 2),
        sequence(
            lambda k: k.SeparableConv2D(3, 3, activation="relu"),
            lambda k: k.GlobalMaxPooling2D(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "dilated": (
        (7, 7, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, dilation_rate=2, padding="same", activation="relu"),
            lambda k: k.Conv2D(2, 3, dilation_rate=2, activation="relu"),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "transposed": (
        (4, 4, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, padding="same", activation="relu"),
            lambda k: k.Conv2DTranspose(2, 3, strides=2, padding="same", activation="relu"),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "TimeDistributed": (
        (4, 3),
        sequence(
            lambda k: k.TimeDistributed(k.Dense(4, "relu")),
            lambda k: k.TimeDistributed(k.Dense(2, "tanh")),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "swish": (
        (4,),
        sequence(lambda k: k.Dense(4, "swish"), lambda k: k.Dense(4, "swish"), lambda k: k.Dense(3)),
        True,
    ),
    "gelu and elu": (
        (4,),
        sequence(lambda k: k.Dense(4, "gelu"), lambda k: k.Dense(4, "elu"), lambda k: k.Dense(3)),
        True,
    ),
}

# Of each there is another, made of the same ops.
ALIKE = {"unrolled LSTM", "GRU", "TimeDistributed", "separable", "gelu and elu"}

# Where one kind of batch size is enough: whether it is the static one.
ONE_BATCH = {
    "unrolled LSTM": False,
    "GRU": True,
    "attention": False,
    "depthwise": True,
    "gelu and elu": False,
}
ONE_BATCH |= {"swish": False, "residual": False, "separable": True}

# name -> (shape of a row, function, whether secant is complete at any number of steps)
PLAIN = {
    "cond": ((3,), condition, False),
    "while_loop": ((3,), while_loop, True),
    "nested loops": ((3,), nested_loops, True),
    "loop that hands on": ((3,), loop_that_hands_on, True),
    "loop that writes an array": ((3,), loop_that_writes_an_array, True),
    "loop that reads its array": ((3,), loop_that_reads_its_array, False),
    "map_fn": ((3,), map_fn, True),
    "time-major recurrence": ((3, 3), time_major, True),
    "time-major scan": ((3, 3), time_major_scan, True),
    "time-major ReLU": ((4, 3), time_major_relu, True),
    "as many steps as rows": ((3, 3), time_major_relu, True),
    "rows times steps": ((4, 3), rows_times_steps, True),
    # TensorFlow subtracts the maximum and adds it again, both behind tf.stop_gradient.
    "log-sum-exp": ((3,), log_sum_exp, False),
}


def spread(network, gain):
    """Random weights that keep the signal alive through a hundred layers, and let outputs differ."""
    rng = np.random.default_rng(0)
    for variable in network.variables:
        noise = rng.normal(size=variable.shape)
        name = variable.name.split("/")[-1]
        if len(variable.shape) > 1:
            fan_in = np.prod(variable.shape[:-1] if variable.shape[-1] > 1 else variable.shape[:2])
            variable.assign(gain * noise * np.sqrt(2 / fan_in))
        elif len(variable.shape) == 1:
            centre = 1.0 if "gamma" in name or "variance" in name else 0.0
            variable.assign(centre + 0.2 * np.clip(noise, -2, 2))
    return network


@contextlib.contextmanager
def precision(keras, dtype="float64"):
    """Layers are made in `dtype`: to rounding, float32 would tell little."""
    floatx, policy = keras.backend.floatx(), keras.mixed_precision.global_policy()
    keras.backend.set_floatx(dtype)
    keras.mixed_precision.set_global_policy(dtype)
    yield
    keras.backend.set_floatx(floatx)
    keras.mixed_precision.set_global_policy(policy)


@pytest.fixture
def float64():
    with precision(tf.keras):
        yield


def live(output, explain, x, static):
    """What `explain(y, x)` returns in the graph that traces the network."""
    return as_graph(lambda tensor: explain(output(tensor), tensor), [x], static)


def frozen(output, explain, x, static):
    """Likewise in a graph imported from a GraphDef that holds the weights as constants."""
    signature = [tf.TensorSpec([len(x) if static else None, *x.shape[1:]], x.dtype)]
    function = tf.function(output, input_signature=signature, autograph=False).get_concrete_function()
    function = convert_variables_to_constants_v2(function, lower_control_flow=False)
    ends = [function.inputs[0].name, function.outputs[0].name]
    with tf.Graph().as_default(), v1.Session() as session:
        tensor, y = tf.graph_util.import_graph_def(function.graph.as_graph_def(), return_elements=ends)
        assert not {op.type for op in tensor.graph.get_operations()} & {"VarHandleOp", "ReadVariableOp"}
        return session.run(explain(y, tensor), {tensor: x})


def check(network, shape, complete, static, rows=3, steps=4, run=live):
    """Gauss-Legendre equals brute force; secant is complete, or tends to be."""
    rng = np.random.default_rng(5)
    x, baseline = rng.normal(size=(rows, *shape)), 0.3 * rng.normal(size=(1, *shape))

    def output(x):
        return network(x)[:, 1]

    def explain(y, x):
        return [
            ig.integrated_gradients(y, x, baseline, steps, "gausslegendre", max_rows=2 * rows),
            ig.integrated_gradients(y, x, baseline, steps if complete else 40, "secant", max_rows=4 * rows),
        ]

    gauss, secant = run(output, explain, x, static)
    gradients = tape_gradients(output)
    assert_close(gauss, brute_force(gradients, [x], [baseline], gauss_legendre(steps))[0], 1e-10)
    start = np.broadcast_to(baseline, x.shape)
    change = (output(tf.constant(x)) - output(tf.constant(start))).numpy()
    assert_close(secant.reshape(rows, -1).sum(axis=1), change, 1e-10 if complete else 2e-2)
    fine = brute_force(gradients, [x], [baseline], midpoints(60))[0]
    assert np.abs(secant - fine).sum() <= (0.3 if complete else 0.05) * np.abs(fine).sum()


class TestNetworks:
    @pytest.mark.few(6)
    @pytest.mark.parametrize(
        "name, static",
        [
            pytest.param(name, static, marks=[pytest.mark.slow] * (name in ALIKE))
            for name in KERAS
            for static in (True, False)
            if ONE_BATCH.get(name, static) == static
        ],
    )
    def test_a_keras_network_is_explained(self, name, static, float64):
        shape, make, complete = KERAS[name]
        check(randomize(make(tf.keras, shape)), shape, complete, static)

    @pytest.mark.few(1)
    @pytest.mark.parametrize(
        "name, static",
        [
            *[("batch norm", True), ("swish", True)],
            *[
                pytest.param(*other, marks=pytest.mark.slow)
                for other in [("GRU", True), ("LSTM", False), ("attention", False)]
            ],
        ],
    )
    def test_a_keras_2_network_is_explained(self, name, static):
        keras = pytest.importorskip("tf_keras")
        shape, make, complete = KERAS[name]
        with precision(keras):
            check(randomize(make(keras, shape)), shape, complete, static)

    @pytest.mark.few(2)
    @BATCHES
    @pytest.mark.parametrize("run", [live, frozen])
    @pytest.mark.parametrize("rows", [1, 3])
    def test_swish_is_explained_by_the_ops_that_it_wraps(self, rows, run, static, float64):
        shape, make, complete = KERAS["swish"]
        network = randomize(make(tf.keras, shape))
        traced = tf.function(network).get_concrete_function(tf.TensorSpec([None, *shape], tf.float64))
        assert "IdentityN" in str(traced.graph.as_graph_def())
        check(network, shape, complete, static, rows, run=run)

    @pytest.mark.few(2)
    @pytest.mark.parametrize(
        "name, static",
        [
            *[("batch norm", False), ("attention", True), ("transposed", False)],
            pytest.param("LSTM", False, marks=pytest.mark.slow),
        ],
    )
    def test_an_imported_frozen_graph_is_explained(self, name, static, float64):
        shape, make, complete = KERAS[name]
        check(randomize(make(tf.keras, shape)), shape, complete, static, run=frozen)

    @pytest.mark.parametrize("static", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_a_signature_of_a_loaded_model_is_explained(self, static, tmp_path, float64):
        shape, make, complete = KERAS["LSTM"]
        module = tf.Module()
        module.network = randomize(make(tf.keras, shape))
        module.inner = tf.function(lambda x: module.network(tf.tanh(x)))
        serve = tf.function(
            lambda x: {"scores": module.inner(x)},
            input_signature=[tf.TensorSpec([3 if static else None, *shape], tf.float64, "x")],
        )
        tf.saved_model.save(module, str(tmp_path), signatures=serve)
        loaded = tf.saved_model.load(str(tmp_path))  # holds the variables
        signature = loaded.signatures["serving_default"]
        assert "PartitionedCall" in {
            op.type.replace("Stateful", "") for op in signature.graph.get_operations()
        }
        check(lambda x: signature(x=x)["scores"], shape, complete, static)

    @pytest.mark.few(2)
    @pytest.mark.parametrize(
        "explained, static",
        [(["image"], True), (["image"], False), (["side"], False), (["image", "side"], True)],
    )
    def test_some_inputs_of_a_network_are_explained(self, explained, static, float64):
        network = randomize(two_inputs(tf.keras))
        rng = np.random.default_rng(5)
        values = {"image": rng.normal(size=(3, 5, 5, 2)), "side": rng.normal(size=(3, 4))}
        xs, beside = [values[name] for name in explained], {k: tf.constant(v) for k, v in values.items()}

        def output(image, side):
            return network([image, side])[:, 1]

        def alone(*tensors):
            return output(**{**beside, **dict(zip(explained, tensors))})

        def build(image, side):
            y, inputs = output(image, side), {"image": image, "side": side}
            inputs = [inputs[name] for name in explained]
            return [
                ig.integrated_gradients(y, inputs, 0.2, 4, method, max_rows=9)
                for method in ("gausslegendre", "secant")
            ]

        gauss, secant = as_graph(build, [values["image"], values["side"]], static)
        expected = brute_force(tape_gradients(alone), xs, [0.2] * len(xs), gauss_legendre(4))
        for part, right in zip(gauss, expected):
            assert_close(part, right, 1e-10)
        change = alone(*map(tf.constant, xs)) - alone(
            *(tf.fill(x.shape, tf.constant(0.2, x.dtype)) for x in xs)
        )
        assert_close(sum(part.reshape(3, -1).sum(axis=1) for part in secant), change, 1e-10)

    @pytest.mark.parametrize(
        "name", [n if n == "MobileNetV2" else pytest.param(n, marks=pytest.mark.slow) for n in APPLICATIONS]
    )
    def test_a_large_network_is_explained(self, name, float64):
        size, scale, gain, secant = APPLICATIONS[name]
        make = getattr(tf.keras.applications, name)
        network = make(weights=None, input_shape=(size, size, 3), classes=3, classifier_activation=None)
        spread(network, gain)

        # One trace of the network, with its gradient and attributions beside it.
        @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float64)], autograph=False)
        def run(x):
            y = network(x, training=False)[:, 1]
            parts = [ig.integrated_gradients(y, x, None, 2, "gausslegendre")]
            parts += [ig.integrated_gradients(y, x, None, 2, "secant")] * secant
            return y, tf.gradients(y, x)[0], parts

        x = scale * np.random.default_rng(5).normal(size=(1, size, size, 3))
        y, _, parts = run(x)
        change = (y - run(0 * x)[0]).numpy()
        assert np.abs(change) > 1e-2
        expected = brute_force(lambda xs: [run(xs[0])[1]], [x], [0.0], gauss_legendre(2))[0]
        assert_close(parts[0], expected, 1e-8)
        if secant:
            assert_close(np.sum(parts[1], (1, 2, 3)), change, 1e-8)

    @pytest.mark.few(9)
    @BATCHES
    @pytest.mark.parametrize("name", PLAIN)
    def test_plain_tensorflow_is_explained(self, name, static):
        shape, network, complete = PLAIN[name]
        check(network, shape, complete, static)

    @BATCHES
    def test_a_module_is_explained(self, static):
        class Network(tf.Module):
            def __init__(self):
                super().__init__()
                self.w, self.out = tf.Variable(W), tf.Variable(OUT)

            @tf.function
            def __call__(self, x):
                return tf.nn.softmax(tf.nn.relu(x @ self.w) @ self.out)

        check(Network(), (3,), True, static)

"""What the first call costs: building the nodes, tracing, and TensorFlow's own preparations.

`python benchmarks/first_call.py` prints one Markdown table, in seconds of processor time (of all
threads, so that a busy machine changes little). For each network, a `tf.function` that explains one
output of one row in 50 steps is traced ("trace": the network's own nodes and ours), called ("first
run": TensorFlow optimizes the graph and prepares it) and called again ("later run"). "nodes" are
those of the traced graph with all its functions. The network alone is traced too, for comparison.

Weights are random and images small: what is measured does not depend on them. `--profile network`
prints instead where the time to trace goes, by `cProfile`.
"""

import argparse
import cProfile
import gc
import pstats
import time

import measure
import numpy as np
import tensorflow as tf

import igtf as ig

import keras  # isort: skip  (after TensorFlow, whose log level is set by then)

STEPS = 50


def lstm():
    x = keras.Input([60, 4])
    return x, keras.layers.Dense(1, activation="sigmoid")(keras.layers.LSTM(24)(x))


def bilstm():
    x = keras.Input([60, 4])
    y = x
    for sequences in (True, False):
        y = keras.layers.Bidirectional(keras.layers.LSTM(16, return_sequences=sequences))(y)
    return x, keras.layers.Dense(3, activation="softmax")(y)


def conv_lstm():
    x = keras.Input([6, 12, 12, 1])
    y = keras.layers.ConvLSTM2D(8, 3, padding="same")(x)
    return x, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(y))


def mapped_gru():
    """A hierarchical network: a BiGRU over the words of each sentence, by `tf.map_fn`."""
    x = keras.Input([4, 10, 8])
    words = keras.layers.Bidirectional(keras.layers.GRU(8))
    words.build([None, 10, 8])

    def sentences(document):
        return tf.map_fn(words, document)

    y = keras.layers.Lambda(sentences, output_shape=(4, 16))(x)
    return x, keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling1D()(y))


def transformer():
    x = keras.Input([16, 32])
    y = x
    for _ in range(12):
        z = keras.layers.LayerNormalization()(y)
        y = keras.layers.Add()([y, keras.layers.MultiHeadAttention(4, 8)(z, z)])
        z = keras.layers.LayerNormalization()(y)
        z = keras.layers.Dense(64, activation="gelu")(z)
        y = keras.layers.Add()([y, keras.layers.Dense(32)(z)])
    y = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(y))
    return x, keras.layers.Dense(10, activation="softmax")(y)


def resnet():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    return model.input, model.output


def retention():
    """Four inputs of one peptide, as in DeepLC: convolutions by position, ReLU with a maximum."""
    shapes = ([60, 6], [30, 6], [60, 20])
    inputs = [keras.Input(shape) for shape in shapes] + [keras.Input([55])]
    ends = []
    for x, filters in zip(inputs, ((256, 128, 64), (128, 64), (16, 8))):
        for width in filters:
            for _ in range(2):
                x = keras.layers.ReLU(max_value=20)(keras.layers.Conv1D(width, 8, padding="same")(x))
            x = keras.layers.MaxPooling1D(2)(x)
        ends.append(keras.layers.Flatten()(x))
    x = inputs[-1]
    for _ in range(3):
        x = keras.layers.ReLU(max_value=20)(keras.layers.Dense(16)(x))
    x = keras.layers.Concatenate()([*ends, x])
    for _ in range(5):
        x = keras.layers.ReLU(max_value=20)(keras.layers.Dense(128)(x))
    return inputs, keras.layers.Dense(1)(x)


def faces():
    """Face candidates, as in the O-Net of MTCNN: PReLU, pooling whose windows overlap."""
    x = keras.Input([48, 48, 3])
    y = x
    for filters, size, pool in ((32, 3, (3, 2, "same")), (64, 3, (3, 2, "valid")), (64, 3, (2, 2, "same"))):
        y = keras.layers.PReLU(shared_axes=[1, 2])(keras.layers.Conv2D(filters, size)(y))
        y = keras.layers.MaxPooling2D(*pool)(y)
    y = keras.layers.PReLU(shared_axes=[1, 2])(keras.layers.Conv2D(128, 2)(y))
    y = keras.layers.PReLU()(keras.layers.Dense(256)(keras.layers.Flatten()(y)))
    return x, keras.layers.Dense(2, activation="softmax")(y)


# name: (network, what it is)
NETWORKS = {
    "lstm": (lstm, "LSTM"),
    "bilstm": (bilstm, "2 bidirectional LSTMs"),
    "conv_lstm": (conv_lstm, "ConvLSTM2D"),
    "mapped_gru": (mapped_gru, "`tf.map_fn` of a bidirectional GRU"),
    "transformer": (transformer, "transformer, 12 blocks"),
    "resnet": (resnet, "ResNet50"),
    "retention": (retention, "4 inputs, Conv1D, ReLU up to 20"),
    "faces": (faces, "Conv2D, PReLU, 3x3 pooling with strides of 2"),
}
METHODS = ("gausslegendre", "auto")


def inputs_of(model):
    rng = np.random.default_rng(0)
    data = [tf.constant(rng.normal(size=[1, *x.shape[1:]]), tf.float32) for x in model.inputs]
    return data[0] if len(data) == 1 else data


def explainer(model, method):
    """A new `tf.function` that explains the first output; the network alone without `method`."""
    spec = [tf.TensorSpec([None, *x.shape[1:]], tf.float32) for x in model.inputs]

    @tf.function(input_signature=[spec[0] if len(spec) == 1 else spec])
    def explain(x):
        y = model(x, training=False)[:, 0]
        return ig.integrated_gradients(y, x, num_steps=STEPS, method=method) if method else y

    return explain


def nodes(graph):
    definition = graph.as_graph_def()
    return len(definition.node) + sum(len(f.node_def) for f in definition.library.function)


def first_call(model, method):
    """Nodes of the graph, and processor time to trace it, to run it first and to run it later."""
    function, data, times = explainer(model, method), inputs_of(model), []
    gc.collect()
    traced = None

    def trace():
        nonlocal traced
        traced = function.get_concrete_function()

    for part in (trace, lambda: function(data), lambda: function(data)):
        start = time.process_time()
        part()
        times.append(time.process_time() - start)
    return nodes(traced.graph), *times


def profile(model, method, lines):
    function, recorder = explainer(model, method), cProfile.Profile()
    recorder.runcall(function.get_concrete_function)
    pstats.Stats(recorder).sort_stats("cumulative").print_stats(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--rounds", type=int, default=3, help="first calls of each; the least is reported")
    parser.add_argument("--profile", choices=NETWORKS, help="a network whose traces are profiled")
    parser.add_argument("--lines", type=int, default=60, help="lines of a profile")
    options = parser.parse_args()
    model = keras.Model(*lstm())
    first_call(model, METHODS[0])  # what TensorFlow loads when it is first needed
    if options.profile:
        model = keras.Model(*NETWORKS[options.profile][0]())
        for method in options.methods:
            profile(model, method, options.lines)
        return
    table = []
    for name in options.networks:
        network, title = NETWORKS[name]
        model = keras.Model(*network())
        alone = min(first_call(model, None)[1] for _ in range(options.rounds))
        whole = {}
        for method in options.methods:
            measure.progress(f"{name}, {method}")
            calls = [first_call(model, method) for _ in range(options.rounds)]
            size, trace, run, later = map(min, zip(*calls))
            whole[method] = trace + run
            against = f"{whole[method] / whole['gausslegendre']:.2f}" if "gausslegendre" in whole else ""
            times = (f"{t:.2f}" for t in (alone, trace, run, later, whole[method]))
            table.append((title, method, f"{size:,}", *times, against))
            measure.progress(" ".join(map(str, table[-1])))
    print(f"1 row, {STEPS} steps, seconds of processor time, {measure.machine()}.\n")
    header = "network|method|nodes|network alone|trace|first run|later run|first call|ratio"
    print(measure.markdown(header.split("|"), table))


if __name__ == "__main__":
    main()

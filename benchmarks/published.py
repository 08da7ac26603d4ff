"""At the size that people have: what a step costs, how much memory it takes, how far it gets.

`make benchmark`, or `python benchmarks/published.py` after `make examples` (which installs the networks of
four packages in `build/published`), prints two Markdown tables; `--publish` writes them to `docs/`.

MobileNetV2 and ResNet50 have random weights, with the statistics of photographs in their batch norms; the
others were trained and published by others. Times are compared with bare gradients by hand: a `tf.function`
that takes the gradients at so many points at once as proved the quickest, and adds them up. Other libraries
are represented by their rules, summed by hand as well, which is quicker than any of them. Errors are relative
L1, the mean over rows, against sums of many midpoints; they take long and are
kept in `build/benchmarks/`. Each network has a process of its own.
"""

import argparse
import bisect
import collections
import functools
import hashlib
import json
import time

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig

STEPS = 20  # of which the time is taken
AT = (10, 20, 50)  # steps at which errors are compared
TARGETS = (0.05, 0.01)
GRID = [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128]
GRID += [160, 192, 224, 256, 320, 384, 448, 512]
PEERS = {
    "gausslegendre": "Captum, alibi",
    "middle": "Captum, alibi",
    "trapezoid": "Xplique",
    "both ends": "PAIR saliency",
}

# call: [B, ...] -> [B]; x and baseline [B, ...]; reference: the number of midpoints
Network = collections.namedtuple("Network", "title call x baseline reference")


def squares(count, size):
    """Squares of scikit-learn's two photographs, `[count, size, size, 3]`, values in -1..1."""
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng(0)
    corners = [[random.integers(length - size) for length in photos[0].shape[:2]] for _ in range(count)]
    cut = [photos[i % 2][row : row + size, column : column + size] for i, (row, column) in enumerate(corners)]
    return np.float32(cut) / 127.5 - 1


def application(name):
    """A network of Keras with random weights, whose batch norms know what photographs make of them."""
    tf.keras.utils.set_random_seed(0)
    model = getattr(tf.keras.applications, name)(weights=None, classifier_activation=None)
    photos = squares(16, 224)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(photos, training=True)
    x = photos[:2]
    chosen = int(np.argmax(model(x)[0]))
    return Network(
        f"{name}, 224x224", lambda t: model(t, training=False)[:, chosen], x, np.zeros_like(x), 1024
    )


def faces():
    """The O-Net of MTCNN, on eight squares around one face."""
    from mtcnn.network.onet import ONet
    from mtcnn.utils.tensorflow import load_weights
    from PIL import Image

    network = ONet()
    network.build()
    network.set_weights(load_weights("onet.lz4"))
    photo = np.asarray(Image.open(measure.PUBLISHED / "skimage/data/astronaut.png"))[..., :3]
    crops = [
        photo[y : y + s, x : x + s]
        for y, x, s in zip(range(50, 66, 2), range(150, 166, 2), range(120, 160, 5))
    ]
    x = np.stack([tf.image.resize(np.float32(crop), (48, 48), antialias=True) for crop in crops])
    x = (x - 127.5) / 128

    def call(t):
        return tf.tensordot(network(t)[2].op.inputs[0], [-1.0, 1.0], 1)  # before the softmax

    return Network("O-Net (MTCNN), 48x48", call, x, np.zeros_like(x), 4096)


def splice_sites():
    """CI-SpliceAI, one of its five networks, at the middle of 400 random letters and 10,000 that it pads."""
    graph = tf.compat.v1.GraphDef.FromString(
        (measure.PUBLISHED / "cispliceai/data/CI-SpliceAI.pb").read_bytes()
    )
    output = "model_1/conv1d_39/BiasAdd"
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, [output])
    letters = np.random.default_rng(0).integers(4, size=[1, 400])
    letters[0, 198:204] = [2, 2, 3, 0, 0, 2]  # GGTAAG, where exons end

    def call(t):
        padded = tf.pad(t, [[0, 0], [5000, 5000], [0, 0]])
        (scores,) = tf.graph_util.import_graph_def(graph, {"x": padded}, [output + ":0"])
        return scores[:, 199, 2] - scores[:, 199, 0]

    x = np.eye(4, dtype=np.float32)[letters]
    return Network("CI-SpliceAI, 10,400 letters", call, x, np.zeros_like(x), 512)


def notes():
    """Basic Pitch, from the spectrum of a tone of 262 Hz against silence to that note."""
    import tf_keras  # noqa: F401  (the SavedModel has an optimizer of Keras 2)
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    saved = tf.saved_model.load(str(measure.PUBLISHED / "basic_pitch/saved_models/icassp_2022/nmp"))
    frozen = convert_variables_to_constants_v2(saved.signatures["serving_default"]).graph.as_graph_def()
    spectrum, output = (
        f"StatefulPartitionedCall/model_1/{name}:0"
        for name in ("tf.expand_dims_1/ExpandDims", "conv2d_3/BiasAdd")
    )

    @tf.function
    def listen(sound):
        return tf.graph_util.import_graph_def(frozen, {"input_2": sound}, [spectrum])[0]

    def call(t):
        (keys,) = tf.graph_util.import_graph_def(frozen, {spectrum: t}, [output])
        return tf.reduce_mean(keys[:, 20:140, 39, 0], axis=1)

    seconds = np.arange(43844) / 22050
    tone = sum(np.sin(2 * np.pi * 261.6 * n * seconds) / n for n in range(1, 9)) * np.exp(-seconds)
    sound = np.float32(0.2 * tone)[None, :, None]
    x, silence = listen(sound).numpy(), listen(0 * sound).numpy()
    return Network("Basic Pitch, spectrum 172x309", call, x, silence, 1024)


def retention():
    """DeepLC, when a peptide leaves a column, by the atoms along it (made up, as are the other inputs)."""
    (path,) = measure.PUBLISHED.glob("deeplc/mods/*8c22d8*.hdf5")
    names = {"<lambda>": lambda t: tf.minimum(tf.nn.relu(t), 20.0)}
    model = tf.keras.models.load_model(path, compile=False, custom_objects=names)
    random = np.random.default_rng(0)
    x, *others = (np.float32(random.poisson(1, [4, *each.shape[1:]])) for each in model.inputs)
    others = [other[:1] for other in others]

    def call(t):
        nothing = tf.reduce_sum(0 * t, axis=[1, 2])  # so that there is a row of the others for each of t
        beside = [other + tf.reshape(nothing, [-1] + [1] * (other.ndim - 1)) for other in others]
        return tf.reshape(model([t, *beside], training=False), [-1])

    return Network("DeepLC, atoms 60x6", call, x, np.zeros_like(x), 4096)


NETWORKS = {
    "mobilenet": functools.partial(application, "MobileNetV2"),
    "resnet": functools.partial(application, "ResNet50"),
    "faces": faces,
    "splice_sites": splice_sites,
    "notes": notes,
    "retention": retention,
}


def rule(name, steps):
    """Points in 0..1 and weights of a rule of another library."""
    if name == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (points + 1) / 2, weights / 2
    if name == "middle":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    points, weights = np.linspace(0, 1, steps), np.ones(steps)
    if name == "trapezoid":
        weights[[0, -1]] = 0.5
    return points, weights / weights.sum()


class ByHand:
    """Sums of gradients along the path, `at_once` points in one call of a `tf.function`."""

    def __init__(self, network, at_once):
        self.change, self.at_once = network.x - network.baseline, at_once
        shape, rows = network.x.shape, len(network.x)

        @tf.function
        def add(alphas, weights):
            alphas, weights = (tf.reshape(t, [at_once] + [1] * len(shape)) for t in (alphas, weights))
            points = tf.reshape(network.baseline + alphas * self.change, [at_once * rows, *shape[1:]])
            (gradient,) = tf.gradients(network.call(points), points)
            return tf.reduce_sum(tf.reshape(gradient, [at_once, *shape]) * weights, 0)

        self.add = add

    def __call__(self, points, weights):
        missing = -len(points) % self.at_once
        parts = [np.float32(np.append(values, np.zeros(missing))) for values in (points, weights)]
        parts = [np.split(values, len(values) // self.at_once) for values in parts]
        return sum(self.add(*part).numpy().astype(np.float64) for part in zip(*parts)) * self.change


class Errors:
    """Errors of rules and of this project at numbers of steps, each computed once and kept in a file."""

    def __init__(self, key, network, by_hand):
        self.network, self.by_hand = network, by_hand
        digest = hashlib.sha256(network.x.tobytes()).hexdigest()[:8]
        self.path = measure.BUILD / f"published-{key}-{digest}.json"
        self.known = json.loads(self.path.read_text()) if self.path.exists() else {}
        expected = self.path.with_suffix(".npy")
        if not expected.exists():
            np.save(expected, by_hand(*rule("middle", network.reference)))
        self.expected = np.load(expected)

    def __call__(self, name, steps):
        key = f"{name} {steps}"
        if name in PEERS and key in self.known:
            return self.known[key]
        if name in PEERS:
            found = self.by_hand(*rule(name, steps))
        else:
            found = explain(self.network, steps, name)()
        self.known[key] = networks.error(found, self.expected)
        self.path.write_text(json.dumps(self.known, indent=1))
        return self.known[key]

    def fewest(self, name, target, most):
        """The fewest steps of the grid within the target, or None."""
        grid = [steps for steps in GRID if steps <= most]
        place = bisect.bisect_left(grid, True, key=lambda steps: self(name, steps) <= target)
        return grid[place] if place < len(grid) else None


def explain(network, steps, method):
    x = tf.constant(network.x)

    @tf.function
    def attribute(x):
        return ig.integrated_gradients(network.call(x), x, network.baseline, num_steps=steps, method=method)

    return lambda: attribute(x).numpy()


def times(network, rounds, fewest):
    """Seconds of `STEPS` steps by hand and by two methods, of `fewest` steps of `auto`, of first calls."""
    points = rule("middle", STEPS)
    hands = {k: ByHand(network, k) for k in (1, 2, 4, 10, 20) if k * network.x.nbytes < 2**24}
    tried = measure.interleaved({k: lambda hand=hand: hand(*points) for k, hand in hands.items()}, 2, 0)
    quickest = min(tried, key=tried.get)
    functions = {"by hand": lambda: hands[quickest](*points)}
    first = {}
    for method in ("gausslegendre", "secant"):
        start = time.perf_counter()
        functions[method] = explain(network, STEPS, method)
        functions[method]()
        first[method] = time.perf_counter() - start
    functions |= {str(steps): explain(network, steps, "auto") for steps in fewest}
    seconds = measure.interleaved(functions, rounds, 0, pause=0.02)
    return {"at once": quickest, "seconds": seconds, "first call": first}


def child(key, part, *numbers):
    """What is measured of one network, printed as JSON."""
    network = NETWORKS[key]()
    if part == "memory":
        result = measure.peak_memory(explain(network, 50, "secant"))[0]
    elif part == "times":
        rounds, *fewest = map(int, numbers)
        result = times(network, rounds, fewest)
    else:
        errors, most = Errors(key, network, ByHand(network, 2)), int(numbers[0])
        result = {"title": network.title, "rows": len(network.x)}
        names = ["auto", *PEERS]
        result["errors"] = {name: [errors(name, steps) for steps in AT] for name in names}
        result["fewest"] = {name: [errors.fewest(name, t, most) for t in TARGETS] for name in names}
    print(json.dumps(result))


def measured(key, options):
    """All of one network, each part in a process of its own."""
    run = functools.partial(measure.in_child, __file__, key)
    result = run("errors", options.most)
    fewest = [steps for steps in result["fewest"]["auto"] if steps]
    measure.progress(f"{key}: errors are known")
    result |= run("times", options.rounds, *fewest) | {"memory": run("memory")}
    measure.progress(f"{key}: times are known")
    return result


def costs(results):
    """The Markdown table of what steps cost."""
    header = ["network", "rows", "bare gradients, ms", "`gausslegendre`", "`secant`"]
    header += ["first call, s", "`secant`, s", "memory, MiB"]
    lines = []
    for r in results:
        by_hand = r["seconds"]["by hand"]
        times = [f"{r['seconds'][method] / by_hand:.2f}" for method in r["first call"]]
        firsts = [f"{seconds:.1f}" for seconds in r["first call"].values()]
        bare = f"{measure.milliseconds(by_hand / STEPS)} ({r['at once']})"
        lines.append([r["title"], r["rows"], bare, *times, *firsts, f"{r['memory'] / measure.MIB:.0f}"])
    return measure.markdown(header, lines)


def accuracies(results, most):
    """The Markdown table of errors, and of steps and seconds to a small error."""
    header = ["network", "rule", *(f"{steps} steps" for steps in AT)]
    for target in TARGETS:
        header += [f"steps to {target:.0%}", "s"]
    lines = []
    for r in results:
        for name, values in r["errors"].items():
            label = "**this project**" if name == "auto" else f"{name} ({PEERS[name]})"
            line = [r["title"], label, *(f"{value:.2%}" for value in values)]
            for steps in r["fewest"][name]:
                if steps is None:
                    line += [f"> {most}", ""]
                    continue
                seconds = r["seconds"]
                spent = seconds[str(steps)] if name == "auto" else steps * seconds["by hand"] / STEPS
                line += [steps, f"{spent:.2f}"]
            lines.append(line)
    return measure.markdown(header, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="interleaved measurements of each")
    parser.add_argument("--most", type=int, default=64, help="steps after which to give up")
    parser.add_argument("--publish", action="store_true", help="write docs/published.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    if not (measure.PUBLISHED / "installed").exists():
        raise SystemExit(f"{measure.PUBLISHED} is not there: run `make build/published/installed` first.")
    results = [measured(key, options) for key in options.networks]
    text = (
        f"{measure.machine()}. Times of {STEPS} steps as multiples of bare gradients at as many points "
        "(in brackets: how many points at once was quickest by hand); memory of 50 steps of `secant` "
        f"above what the process held.\n\n{costs(results)}\n\n{accuracies(results, options.most)}\n"
    )
    print(text)
    for folder in [measure.BUILD] + ([measure.ROOT / "docs"] if options.publish else []):
        (folder / "published.md").write_text(text)


if __name__ == "__main__":
    main()

"""Whether a tolerance is kept, and what it costs beside knowing the number of steps beforehand.

`make benchmark`, or `python benchmarks/tolerance.py`, prints two Markdown tables; `--publish` writes them and
the picture to `docs/`. For each network, 32 rows and each tolerance: the true relative L1 errors of the rows,
against float64 sums with nothing of this project in them; the steps taken; and the time, as a multiple of the
time of the fewest steps (of a grid) at which every row is within the tolerance, which nobody knows
beforehand. Networks are those of `time_to_accuracy.py`, some whose normalization is flat at the zero
baseline, small ones drawn at random (of the tests, `--random` of them), and, with the package mtcnn's
`onet.lz4` (`--onet PATH`), its O-Net on faces.
"""

import argparse
import bisect
import functools
import sys

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig

TOLERANCES = (0.05, 0.01, 0.002)
GRID = [3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128]
GRID += [160, 192, 224, 256, 320, 384, 448, 512, 640]
RANDOM_SHAPES = ((12,), (6, 5), (8, 8, 2))


class Case:
    """A network of one output per row, rows to explain, and their attributions as they are."""

    def __init__(self, title, network, x, expected, baseline=None):
        self.title, self.x, self.baseline, self.expected = title, x, baseline, expected
        signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype)]

        def build(**options):
            @tf.function(input_signature=signature)
            def attribute(x):
                return ig.integrated_gradients(network(x), x, baseline, **options)

            return lambda: tf.nest.map_structure(lambda t: t.numpy(), attribute(self.x))

        self.build = build

    @functools.cache  # noqa: B019  (lives as long as the benchmark of one network)
    def worst(self, steps):
        """The error of the worst row with so many steps for all of them."""
        return self.errors(self.build(num_steps=steps)()).max()

    def errors(self, attributions):
        """Relative L1 of each row."""
        axes = tuple(range(1, self.expected.ndim))
        missed = np.abs(np.asarray(attributions, np.float64) - self.expected).sum(axes)
        return missed / np.abs(self.expected).sum(axes)


def graded(network, x, panels=48, points=4096, most=2, baseline=0.0, rows=4096):
    """Midpoint sums in float64 over parts of the path that shrink towards both ends, `rows` at a time."""
    copies = max(1, rows // len(x))

    @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]], tf.float64)])
    def gradients(point):
        with tf.GradientTape() as tape:
            tape.watch(point)
            y = tf.reduce_sum(network(point))
        return tf.reduce_sum(tf.reshape(tape.gradient(y, point), [-1, *x.shape]), 0)

    low = np.concatenate([[0], 0.5 * 2.0 ** -np.arange(panels)[::-1]])
    edges = np.concatenate([low, 1 - low[-2::-1]])
    total = np.zeros(x.shape)
    for start, end in zip(edges, edges[1:]):
        count = most * points if end - start > 0.1 else points
        alphas = start + (np.arange(count) + 0.5) / count * (end - start)
        for some in np.split(alphas, range(copies, count, copies)):
            at = baseline + some.reshape(-1, *[1] * x.ndim) * (x - baseline)
            total += (end - start) / count * gradients(at.reshape(-1, *x.shape[1:])).numpy()
    return total * (x - baseline)


def trained(name, rows):
    model, x = networks.trained(name), networks.rows(rows)
    chosen = tf.constant(networks.targets(model, x))

    def network(x):
        return model(x, training=False)

    case = Case(networks.NETWORKS[name][1], network, x, networks.reference(name, rows))
    signature = [tf.TensorSpec([None, *x.shape[1:]]), tf.TensorSpec([None, 10])]

    def build(**options):
        @tf.function(input_signature=signature)
        def attribute(x, weights):
            return ig.integrated_gradients(network(x), x, grad_ys=weights, **options)

        weights = tf.one_hot(chosen, 10)
        return lambda: tf.nest.map_structure(lambda t: t.numpy(), attribute(x, weights))

    case.build = build
    return case


def normalized(kind, rows):
    """A network of random weights whose first normalization is flat where the path starts."""
    random = np.random.RandomState(len(kind))
    image = kind == "instance norm"
    kernels = [random.normal(size=(3, 3, a, 6) if image else (12, 12)) / 3 for a in (2, 6)]
    biases = [random.normal(size=k.shape[-1]) / 4 for k in kernels]
    last = random.normal(size=6 if image else 12)
    x = random.normal(size=(rows, 8, 8, 2) if image else (rows, 12)).astype(np.float32)

    def cast(values, x):
        return tf.constant(values, x.dtype)

    def network(x):
        for kernel, bias in zip(kernels, biases):
            if kind == "instance norm":
                x = tf.nn.conv2d(x, cast(kernel, x), 1, "SAME")
                mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
                x = tf.nn.leaky_relu((x - mean) * tf.math.rsqrt(variance + 1e-5) + cast(bias, x))
            elif kind == "layer norm":
                mean, variance = tf.nn.moments(x, [1], keepdims=True)
                x = (x - mean) * tf.math.rsqrt(variance + 1e-3)
                x = tf.nn.relu(x @ cast(kernel, x) + cast(bias, x))
            else:
                x = tf.nn.relu(tf.math.l2_normalize(x, 1) @ cast(kernel, x) + cast(bias, x))
        x = tf.reduce_mean(x, [1, 2]) if image else x
        return tf.linalg.matvec(x, cast(last, x))

    points = 1024 if image else 4096
    return Case(f"{kind}, zero baseline", network, x, graded(network, x.astype(np.float64), points=points))


def attention(rows):
    """A block of self-attention and one of ReLU behind layer norms, of random weights, on six words."""
    random = np.random.RandomState(3)
    kernels = [random.normal(size=(8, 8)) / 3 for _ in range(5)]
    bias, last = random.normal(size=8) / 3, random.normal(size=8)
    x = random.normal(size=(rows, 6, 8)).astype(np.float32)

    def normal(x):
        mean, variance = tf.nn.moments(x, [2], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-3)

    def network(x):
        query, key, value, up, down = (tf.constant(k, x.dtype) for k in kernels)
        h = normal(x)
        heard = tf.nn.softmax(tf.matmul(h @ query, h @ key, transpose_b=True) / tf.sqrt(tf.cast(8, x.dtype)))
        x += heard @ (h @ value)
        x += tf.nn.relu(normal(x) @ up + tf.constant(bias, x.dtype)) @ down
        return tf.linalg.matvec(tf.reduce_mean(normal(x), 1), tf.constant(last, x.dtype))

    expected = graded(network, x.astype(np.float64), points=1024)
    return Case("attention and two layer norms, zero baseline", network, x, expected)


def trained_norms(rows):
    """A classifier of digits with layer norms, trained; what speaks for a 3."""
    import keras
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    digits, layers = load_digits(), keras.layers
    images = (digits.data / 16).astype(np.float32)
    model = keras.Sequential([keras.Input([64])])
    for units in (64, 32):
        model.add(layers.LayerNormalization(epsilon=1e-3))
        model.add(layers.Dense(units, "relu"))
    model.add(layers.Dense(10))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[rows:], digits.target[rows:], epochs=20, verbose=0)
    weights = model.get_weights()

    def network(x):
        take = iter([tf.constant(w, x.dtype) for w in weights])
        for _ in range(2):
            mean, variance = tf.nn.moments(x, [1], keepdims=True)
            x = (x - mean) * tf.math.rsqrt(variance + 1e-3) * next(take) + next(take)
            x = tf.nn.relu(x @ next(take) + next(take))
        return (x @ next(take) + next(take))[:, 3]

    x = images[:rows]
    expected = graded(network, x.astype(np.float64), points=1024)
    return Case("trained MLP with layer norms, zero baseline", network, x, expected)


def drawn(seed, rows):
    """A small network of the tests' generator, as a function of vectors."""
    random = np.random.RandomState(seed)
    sizes = [random.randint(4, 16) for _ in range(random.randint(2, 5))]
    kinds = [["relu", "tanh", "elu", "softplus", "leaky_relu", "swish"][random.randint(6)] for _ in sizes]
    kernels = [random.normal(size=pair) / np.sqrt(pair[0]) for pair in zip([8, *sizes], [*sizes, 3])]
    biases = [random.normal(size=size) / 2 for size in sizes]
    x = random.normal(size=(rows, 8)).astype(np.float32)

    def network(x):
        for kernel, bias, kind in zip(kernels, biases, kinds):
            x = getattr(tf.nn, kind)(x @ tf.constant(kernel, x.dtype) + tf.constant(bias, x.dtype))
        return tf.nn.softmax(x @ tf.constant(kernels[-1], x.dtype))[:, 0]

    return Case(f"random {seed}", network, x, graded(network, x.astype(np.float64), panels=8))


def onet(path, rows):
    """MTCNN's O-Net on faces out of scikit-image's astronaut, from a grey baseline: face or not."""
    import joblib
    from skimage.data import astronaut
    from skimage.transform import resize

    weights = [np.asarray(w) for w in joblib.load(path)]
    random = np.random.RandomState(0)
    picture, faces = astronaut() / 255, []
    for _ in range(rows):
        size, top, left = random.randint(110, 150), random.randint(50, 75), random.randint(150, 180)
        face = resize(picture[top : top + size, left : left + size], (48, 48), anti_aliasing=True)
        faces.append((face * 255 - 127.5) / 128)
    x = np.array(faces, np.float32)

    def network(x):
        take = iter([tf.constant(w, x.dtype) for w in weights])

        def convolved(x):
            return tf.nn.conv2d(x, next(take), 1, "VALID") + next(take)

        def prelu(x):
            slope = next(take)
            return tf.nn.relu(x) - slope * tf.nn.relu(-x)

        for pool in ((3, "SAME"), (3, "VALID"), (2, "SAME"), None):
            x = prelu(convolved(x))
            x = x if pool is None else tf.nn.max_pool2d(x, pool[0], 2, pool[1])
        x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, np.prod(x.shape[1:])])
        x = prelu(x @ next(take) + next(take))
        kernel, bias = list(take)[-2:]  # of three heads the last one
        return tf.nn.softmax(x @ kernel + bias)[:, 1]

    return Case(
        "MTCNN's O-Net", network, x, graded(network, x.astype(np.float64), panels=3, points=128, rows=256)
    )


def judge(case, tolerance, options):
    """A row of the table, as a dict."""
    run = case.build(tolerance=tolerance, return_error=True)
    found, _, steps = run()
    errors = case.errors(found)
    place = bisect.bisect_left(GRID, True, key=lambda steps: case.worst(steps) <= tolerance)
    oracle = GRID[place] if place < len(GRID) else None
    result = {"title": case.title, "tolerance": tolerance, "errors": errors, "steps": steps, "oracle": oracle}
    if oracle and not options.fast:
        functions = {"ours": run, "oracle": case.build(num_steps=oracle)}
        times = measure.interleaved(functions, 3, budget=20)
        result["cost"] = times["ours"] / times["oracle"]
    return result


def table(results):
    header = ["network", "tolerance", "error / tolerance: median", "largest", "rows within", "steps"]
    header += ["fewest steps for all rows", "time, times theirs"]
    rows = []
    for r in results:
        ratio = r["errors"] / r["tolerance"]
        taken = f"{r['steps'].mean():.0f} ({r['steps'].min()} to {r['steps'].max()})"
        cost = f"{r['cost']:.1f}" if "cost" in r else ""
        cells = [f"{r['tolerance']:.1%}", f"{np.median(ratio):.2f}", f"{ratio.max():.2f}"]
        cells += [f"{np.mean(ratio <= 1):.0%}", taken, r["oracle"] or "", cost]
        rows.append([r["title"], *cells])
    return measure.markdown(header, rows)


def picture(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.5, 4.2), dpi=100)
    names = list(dict.fromkeys(r["title"] for r in results))
    for i, name in enumerate(names):
        ours = [r for r in results if r["title"] == name]
        spread = 1 + 0.06 * (i - (len(names) - 1) / 2)
        at = np.concatenate([np.full(len(r["errors"]), r["tolerance"] * spread) for r in ours])
        errors = np.concatenate([r["errors"] for r in ours])
        axes.loglog(at, np.maximum(errors, 1e-6), "os^Dv"[i % 5], markersize=3.5, alpha=0.6, label=name)
    ends = np.array([0.001, 0.08])
    axes.loglog(ends, ends, color="black", linewidth=1)
    axes.annotate("asked for", (0.0235, 0.0255), rotation=16, fontsize=10)
    axes.set_xticks(TOLERANCES, [f"{t:.1%}" for t in TOLERANCES])
    axes.minorticks_off()
    axes.set_xlabel("tolerance asked for", fontsize=11)
    axes.set_ylabel("true relative error of a row", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--random", type=int, default=8, help="how many small random networks")
    parser.add_argument("--onet", help="path of onet.lz4 of the package mtcnn")
    parser.add_argument("--networks", nargs="*", help="which of them; all, if none is named")
    parser.add_argument("--fast", action="store_true", help="without times")
    parser.add_argument("--publish", action="store_true", help="write docs/tolerance.md and .png")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    makers = {name: lambda n=name: trained(n, options.rows) for name in networks.NETWORKS}
    makers |= {k: lambda k=k: normalized(k, options.rows) for k in ("layer norm", "instance norm", "l2 norm")}
    makers |= {"attention": lambda: attention(options.rows), "norms": lambda: trained_norms(options.rows)}
    makers |= {f"random {s}": lambda s=s: drawn(s, options.rows) for s in range(options.random)}
    makers |= {"onet": lambda: onet(options.onet, options.rows)} if options.onet else {}
    results = []
    for name in options.networks or makers:
        case = makers[name]()
        for tolerance in TOLERANCES:
            measure.progress(f"{case.title}, {tolerance:.1%}")
            results.append(judge(case, tolerance, options))
        measure.progress(table(results[-len(TOLERANCES) :]))
        if options.publish:
            publish(results, options)
    print(report(results, options))


def report(results, options):
    ratios = np.concatenate([r["errors"] / r["tolerance"] for r in results])
    costs = [r["cost"] for r in results if "cost" in r]
    text = f"{options.rows} rows, {measure.machine()}.\n\n{table(results)}\n\nOf {len(ratios):,} rows, "
    text += f"{np.mean(ratios <= 1):.1%} are within the tolerance; the largest error is {ratios.max():.2f} "
    text += "times it."
    if costs:
        text += f" Time over that of the fewest steps for all rows: {np.median(costs):.1f} in the median."
    return text


def publish(results, options):
    docs = measure.ROOT / "docs"
    (docs / "tolerance.md").write_text(f"# Tolerances asked for, and errors\n\n{report(results, options)}\n")
    picture(results[: len(networks.NETWORKS) * len(TOLERANCES)], docs / "tolerance.png")


if __name__ == "__main__":
    sys.exit(main())

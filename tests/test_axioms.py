"""The axioms of attribution as properties of random networks: `CLAIMS` is the table of docs/axioms.md.

Every example draws a network of its own (random_networks.py). A few examples run by default, the same
ones every time; the environment variable EXAMPLES asks for more.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import random_networks
import tensorflow as tf
from hypothesis import strategies as st
from random_networks import SEEDS, check
from reference import as_graph, assert_same, joined

import igtf as ig
import igtf.methods as methods

v1 = tf.compat.v1
STEPS = 5
RULES = ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid", "gausslegendre"]
MIRRORED = {"riemann_left": "riemann_right", "riemann_right": "riemann_left"}
OUTPUTS = np.array([1.0, -2.0, 0.5])  # no weights that softmax is indifferent to


# Methods: function of the network's outputs, its inputs and baselines (two lists of tensors) ------------


def integrated(method, steps=STEPS):
    return lambda ys, xs, bs: ig.integrated_gradients(ys, xs, bs, num_steps=steps, method=method)


METHODS = {
    "integrated_gradients": integrated("gausslegendre"),
    "integrated_gradients, secant": integrated("secant"),
    "deeplift": methods.deeplift,
    "epsilon_lrp": lambda ys, xs, bs: methods.epsilon_lrp(ys, xs),
    "gradient_times_input": lambda ys, xs, bs: methods.gradient_times_input(ys, xs),
    "saliency": lambda ys, xs, bs: methods.saliency(ys, xs),
    "guided_backpropagation": lambda ys, xs, bs: methods.guided_backpropagation(ys, xs),
    "occlusion": lambda ys, xs, bs: methods.occlusion(ys, xs, baseline=bs),
    "shapley_value_sampling": lambda ys, xs, bs: methods.shapley_value_sampling(
        ys, xs, num_samples=2, baselines=bs, seed=1
    ),
    "kernel_shap": lambda ys, xs, bs: methods.kernel_shap(ys, xs, bs, num_samples=40, seed=1),
    "expected_gradients": lambda ys, xs, bs: methods.expected_gradients(ys, xs, bs, 3, seed=1),
    "smoothgrad": lambda ys, xs, bs: methods.smoothgrad(
        methods.gradient_times_input, ys, xs, stdev=0.1, num_samples=2, seed=1
    ),
}
ALL = set(METHODS)
RANDOM = {"expected_gradients", "smoothgrad"}

# axiom -> {method: "yes", or "limit": as the number of steps grows}. What is not listed is not claimed.
CLAIMS = {
    "completeness": {
        "integrated_gradients": "limit",
        "integrated_gradients, secant": "yes",
        "deeplift": "yes",
        "shapley_value_sampling": "yes",
        "kernel_shap": "yes",
        "expected_gradients": "limit",
    },
    "sensitivity": {
        "integrated_gradients": "limit",
        "integrated_gradients, secant": "yes",
        "deeplift": "yes",
        "occlusion": "yes",
        "shapley_value_sampling": "yes",
    },
    "dummy": dict.fromkeys(ALL - {"kernel_shap"}, "yes"),
    "linearity": {
        **dict.fromkeys(ALL - {"saliency", "guided_backpropagation"}, "yes"),
        "integrated_gradients, secant": "limit",
    },
    "symmetry": dict.fromkeys(ALL - {"shapley_value_sampling", "kernel_shap", "smoothgrad"}, "yes"),
    "implementation invariance": {
        **dict.fromkeys(ALL - {"deeplift", "epsilon_lrp", "guided_backpropagation"}, "yes"),
        "integrated_gradients, secant": "limit",
    },
    "baseline swap": {
        "integrated_gradients": "yes",
        "integrated_gradients, secant": "yes",
        "deeplift": "yes",
    },
    "row independence": dict.fromkeys(METHODS, "yes"),
    "permutation of rows": dict.fromkeys(ALL - RANDOM, "yes"),
    "session equals tf.function": dict.fromkeys(METHODS, "yes"),
}


def claimed(axiom, how="yes"):
    return {name: METHODS[name] for name in METHODS if CLAIMS[axiom].get(name) == how}


def score(network, xs, outputs=OUTPUTS):
    return tf.reduce_sum(network(*xs) * tf.constant(outputs, xs[0].dtype), axis=1)


def run(build, xs, bs, static=True):
    """What `build(xs, bs)` returns for two lists of arrays, as arrays."""
    arrays, n = [*xs, *bs], len(xs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ops without a DeepLIFT or LRP rule
        return as_graph(lambda *a: build(list(a[:n]), list(a[n:])), arrays, static)


def total(parts):
    """Sum over the features of each row."""
    return sum(np.reshape(part, [len(part), -1]).sum(1) for part in parts)


def size(parts):
    """The largest entry of each row."""
    return np.max([np.abs(part).reshape(len(part), -1).max(1) for part in parts], axis=0)


# Axioms -----------------------------------------------------------------------------------------------


@check(
    share=0.7,
    network=random_networks.networks(),
    kind=random_networks.KINDS,
    seed=SEEDS,
    static=st.booleans(),
    steps=st.sampled_from([1, 2, 7]),
)
def test_complete_methods_sum_to_the_change_of_the_output(network, kind, seed, static, steps):
    xs, bs = random_networks.ends(network, seed, kind=kind)

    def build(xs, bs):
        merged, ys = network.parts(*xs)
        ys = tf.reduce_sum(ys * OUTPUTS, 1)
        found = {name: method(ys, xs, bs) for name, method in claimed("completeness").items()}
        found["steps"] = ig.integrated_gradients(ys, xs, bs, num_steps=steps, method="secant")
        found["conductance"] = [ig.layer_conductance(ys, merged, xs, bs, num_steps=steps, method="secant")]
        return found, ys, score(network, bs)

    found, after, before = run(build, xs, bs, static)
    for name, parts in found.items():
        terms = sum(np.abs(part).reshape(len(part), -1).sum(1) for part in parts)
        bound = 1e-9 * terms + 1e-12 * (1 + np.abs(after))
        assert (np.abs(total(parts) - (after - before)) <= bound).all(), name


@check(network=random_networks.networks(most_layers=3), seed=SEEDS)
def test_point_rules_are_complete_as_steps_grow(network, seed):
    """The error of a sum of S steps is at most the total variation of the integrand, divided by S."""
    steps, samples = 20, 400
    xs, bs = random_networks.ends(network, seed, rows=2)

    def build(xs, bs):
        ys = score(network, xs)
        alphas = (tf.range(samples, dtype=tf.float64) + 0.5) / samples
        shaped = [tf.reshape(alphas, [-1] + [1] * x.shape.rank) for x in xs]
        points = [tf.reshape(b + a * (x - b), [-1, *x.shape[1:]]) for a, x, b in zip(shaped, xs, bs)]
        grads = tf.gradients(score(network, points), points, unconnected_gradients="zero")
        slopes = [tf.reshape(g, [samples, *x.shape]) * (x - b) for g, x, b in zip(grads, xs, bs)]
        slopes = sum(tf.reduce_sum(tf.reshape(s, [samples, 2, -1]), 2) for s in slopes)
        found = {rule: integrated(rule, steps)(ys, xs, bs) for rule in RULES}
        return found, ys - score(network, bs), slopes

    found, change, slopes = run(build, xs, bs)
    variation = np.abs(np.diff(slopes, axis=0)).sum(0) + np.abs(slopes).max(0) / samples
    for rule, parts in found.items():
        # Gauss-Legendre: nodes stand for up to pi / 2 times their share; a trapezoid has S - 1 panels.
        bound = {"gausslegendre": 1.6}.get(rule, 1.1) * variation / steps + 1e-9
        assert (np.abs(total(parts) - change) <= bound).all(), rule


@check(network=random_networks.networks(smooth=True, most_inputs=1, most_layers=2), seed=SEEDS)
def test_gauss_legendre_is_complete_to_many_digits_on_smooth_networks(network, seed):
    xs, bs = random_networks.ends(network, seed)

    def build(xs, bs):
        ys = score(network, xs)
        return integrated("gausslegendre", 100)(ys, xs, bs), ys - score(network, bs)

    parts, change = run(build, xs, bs)
    assert_same([total(parts)], [change], 1e-6, floor=1e-7)


@check(network=random_networks.networks(smooth=True, shapes=[(4,)], most_layers=1), seed=SEEDS)
def test_expected_gradients_approach_completeness(network, seed):
    xs, bs = random_networks.ends(network, seed)

    def build(xs, bs):
        ys, start = score(network, xs), score(network, bs)
        few, many = (methods.expected_gradients(ys, xs, bs, n, seed=1) for n in (20, 2000))
        return few, many, ys - tf.reduce_mean(start)

    few, many, change = run(build, xs, bs)
    errors = [np.abs(total(parts) - change).mean() for parts in (few, many)]
    # A tenth on average; a lucky start may be no worse than chance leaves it.
    assert errors[1] <= max(errors[0] / 2, 0.05 * size(many).max())


@check(share=0.7, network=random_networks.networks(most_layers=3), seed=SEEDS)
def test_the_only_feature_that_differs_gets_the_whole_change(network, seed):
    random = np.random.RandomState(seed)
    xs, bs = random_networks.ends(network, seed)
    masks = [np.zeros(x.shape[1:]) for x in xs]
    chosen = masks[random.randint(len(masks))]
    chosen.flat[random.randint(chosen.size)] = 1
    bs = [np.where(mask, b, x) for mask, x, b in zip(masks, xs, bs)]

    def build(xs, bs):
        ys = score(network, xs)
        exact = {name: method(ys, xs, bs) for name, method in claimed("sensitivity").items()}
        return exact, integrated("gausslegendre")(ys, xs, bs), ys - score(network, bs)

    exact, points, change = run(build, xs, bs)
    for name, parts in exact.items():
        wanted = [mask * change.reshape([-1] + [1] * mask.ndim) for mask in masks]
        assert_same(parts, wanted, 1e-9, name, floor=1e-12)
    assert all(not (part * (1 - mask)).any() for part, mask in zip(points, masks))


@check(share=0.7, network=random_networks.networks(most_layers=2), kind=random_networks.KINDS, seed=SEEDS)
def test_features_without_influence_get_nothing(network, kind, seed):
    random = np.random.RandomState(seed)
    xs, bs = random_networks.ends(network, seed, kind=kind)
    masks = [(random.rand(*x.shape[1:]) < 0.6).astype(np.float64) for x in xs]

    def build(xs, bs):
        ys = score(network, [x * mask for x, mask in zip(xs, masks)])
        return {name: method(ys, xs, bs) for name, method in claimed("dummy").items()}

    for name, parts in run(build, xs, bs).items():
        for part, mask in zip(parts, masks):
            # Replays of other numbers of rows are equal to rounding.
            bound = 1e-12 if name in {"occlusion", "shapley_value_sampling"} else 0
            assert (np.abs(part * (1 - mask)) <= bound).all(), name
            assert np.isfinite(part).all(), name


@check(
    share=0.7,
    network=random_networks.networks(shapes=[(4,), (3, 4)], most_inputs=1, most_layers=1),
    seed=SEEDS,
)
def test_attributions_are_linear_in_the_network(network, seed):
    xs, bs = random_networks.ends(network, seed)
    other = network._replace(seed=seed + 1, head="linear")

    def build(xs, bs):
        f, g = score(network, xs), score(other, xs)
        exact = {
            name: (method(2 * f - 3 * g, xs, bs), method(f, xs, bs), method(g, xs, bs))
            for name, method in claimed("linearity").items()
        }
        for steps in (4, 64):
            method = integrated("secant", steps)
            exact[f"{steps} steps"] = method(2 * f - 3 * g, xs, bs), method(f, xs, bs), method(g, xs, bs)
        # Of several outputs of one network, secant is linear too.
        y, (a, b) = network(*xs), np.eye(3)[:2]
        exact["outputs"] = [
            ig.integrated_gradients(y, xs, bs, num_steps=3, method="secant", grad_ys=tf.ones_like(y) * w)
            for w in (2 * a - 3 * b, a, b)
        ]
        return exact

    found = run(build, xs, bs)
    few, many = (found.pop(f"{steps} steps") for steps in (4, 64))
    for name, (both, f, g) in found.items():
        assert_same(both, [2 * p - 3 * q for p, q in zip(f, g)], 1e-9, name, floor=1e-12)
    gaps = [
        np.abs(joined(both) - 2 * joined(f) + 3 * joined(g)).sum() / np.abs(joined(both)).sum()
        for both, f, g in (few, many)
    ]
    assert gaps[1] <= max(gaps[0] / 3, 1e-3)


@check(
    network=random_networks.networks(shapes=[(4,)], most_inputs=1, most_layers=2),
    kind=st.sampled_from(["normal", "integers", "large"]),
    seed=SEEDS,
)
def test_features_that_play_the_same_part_get_the_same(network, kind, seed):
    xs, bs = random_networks.ends(network, seed, kind=kind)
    for array in xs + bs:
        array[:, 1] = array[:, 0]

    def build(xs, bs):
        a, b, c, d = tf.unstack(xs[0], axis=1)
        ys = score(network, [tf.stack([a + b, tf.tanh(a) * tf.tanh(b), c, d], 1)])
        return {name: method(ys, xs, bs) for name, method in claimed("symmetry").items()}

    for name, (part,) in run(build, xs, bs).items():
        assert_same([part[:, :1]], [part[:, 1:2]], 1e-9, name, floor=1e-12 * (1 + np.abs(part).max()))


# The same function in other words.
TWINS = {
    "relu": (tf.nn.relu, lambda z: tf.maximum(z, 0), lambda z: (z + tf.abs(z)) / 2),
    "sigmoid": (tf.sigmoid, lambda z: 1 / (1 + tf.exp(-z)), lambda z: (tf.tanh(z / 2) + 1) / 2),
    "silu": (tf.nn.silu, lambda z: z * tf.sigmoid(z), lambda z: z / (1 + tf.exp(-z))),
    "gelu": (
        lambda z: z * (1 + tf.math.erf(z / 2**0.5)) / 2,
        lambda z: z * tf.math.erfc(-z / 2**0.5) / 2,
        lambda z: z - z * tf.math.erfc(z / 2**0.5) / 2,
    ),
    "softplus": (tf.nn.softplus, lambda z: tf.math.log1p(tf.exp(z)), lambda z: -tf.math.log(tf.sigmoid(-z))),
    "square": (tf.square, lambda z: z * z, lambda z: tf.pow(z, 2.0)),
    "leaky": (
        lambda z: tf.nn.leaky_relu(z, 0.25),
        lambda z: tf.where(z > 0, z, z / 4),
        lambda z: tf.maximum(z, z / 4),
    ),
    "softmax": (
        tf.nn.softmax,
        lambda z: tf.exp(tf.nn.log_softmax(z)),
        lambda z: tf.exp(z) / tf.reduce_sum(tf.exp(z), -1, True),
    ),
}
PRODUCTS = (
    tf.matmul,
    lambda x, w: tf.einsum("bf,fg->bg", x, w),
    lambda x, w: tf.nn.conv1d(x[:, None], w[None], 1, "VALID")[:, 0],
)


@check(
    share=0.7,
    names=st.lists(st.sampled_from(list(TWINS)), min_size=1, max_size=2),
    which=st.sampled_from([1, 2]),
    seed=SEEDS,
)
def test_the_same_function_written_otherwise_gets_the_same(names, which, seed):
    def network(x, which):
        weights = random_networks.Weights(seed, x.dtype)
        for name in names:
            x = TWINS[name][which](PRODUCTS[which](x, weights(4, 4)) + weights(4, scale=0.2))
        return tf.reduce_sum(x * weights(4, scale=1), 1)

    random = np.random.RandomState(seed)
    xs, bs = [random.normal(size=(3, 4))], [random.normal(size=(3, 4))]

    def build(xs, bs):
        outputs = [network(xs[0], i) for i in (0, which)]
        exact = {
            name: [method(ys, xs, bs) for ys in outputs]
            for name, method in claimed("implementation invariance").items()
        }
        exact.update({rule: [integrated(rule)(ys, xs, bs) for ys in outputs] for rule in RULES})
        return exact, [[integrated("secant", steps)(ys, xs, bs) for ys in outputs] for steps in (4, 64)]

    exact, (few, many) = run(build, xs, bs)
    for name, (one, two) in exact.items():
        assert_same(one, two, 1e-8, name, floor=1e-11)
    gaps = [np.abs(joined(one) - joined(two)).sum() / np.abs(joined(one)).sum() for one, two in (few, many)]
    assert gaps[1] <= max(gaps[0] / 3, 1e-3)


@check(share=0.7, network=random_networks.networks(most_layers=3), kind=random_networks.KINDS, seed=SEEDS)
def test_swapping_input_and_baseline_changes_the_sign(network, kind, seed):
    xs, bs = random_networks.ends(network, seed, kind=kind)

    def build(xs, bs):
        (layer, ys), (layer0, ys0) = network.parts(*xs), network.parts(*bs)
        ys, ys0 = (tf.reduce_sum(y * OUTPUTS, 1) for y in (ys, ys0))
        pairs = {
            name: (method(ys, xs, bs), method(ys0, bs, xs))
            for name, method in claimed("baseline swap").items()
        }
        for rule in RULES:
            mirrored = MIRRORED.get(rule, rule)
            pairs[rule] = integrated(rule)(ys, xs, bs), integrated(mirrored)(ys0, bs, xs)
        options = {"num_steps": STEPS, "method": "secant"}
        pairs["conductance"] = (
            [ig.layer_conductance(ys, layer, xs, bs, **options)],
            [ig.layer_conductance(ys0, layer0, bs, xs, **options)],
        )
        return pairs

    for name, (there, back) in run(build, xs, bs).items():
        assert_same(there, [-part for part in back], 1e-8, name, floor=1e-14)


# Rows, blocks, graphs ---------------------------------------------------------------------------------


@check(
    share=0.7,
    network=random_networks.networks(most_inputs=1, most_layers=1),
    seed=SEEDS,
    static=st.booleans(),
    poison=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_rows_do_not_know_their_neighbours(network, seed, static, poison):
    xs, bs = random_networks.ends(network, seed)

    def build(*arrays):
        xs, bs = list(arrays[:1]), list(arrays[1:])
        merged, ys = network.parts(*xs)
        ys = tf.reduce_sum(ys * OUTPUTS, 1)
        found = {name: method(ys, xs, bs) for name, method in METHODS.items()}
        found["riemann_trapezoid"] = integrated("riemann_trapezoid")(ys, xs, bs)
        found["layer_conductance"] = [ig.layer_conductance(ys, merged, xs, bs, num_steps=3)]
        return found

    arrays, order = xs + bs, [2, 0, 1]
    signature = [tf.TensorSpec([3 if static else None, *a.shape[1:]], a.dtype) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        traced = tf.function(build, input_signature=signature, autograph=False)
        found, permuted, beside, beside_poison = (
            tf.nest.map_structure(lambda t: t.numpy(), traced(*map(tf.constant, some)))
            for some in (
                arrays,
                [a[order] for a in arrays],
                # Of the data set of expected gradients too, rows stay where they are.
                [np.concatenate([[row], a[1:]]) for a, row in zip(arrays, (7 * xs[0][0] - 1, bs[0][0]))],
                [np.concatenate([np.full_like(xs[0][:1], poison), xs[0][1:]]), *bs],
            )
        )
        with tf.Graph().as_default(), v1.Session() as session:
            feeds = [v1.placeholder(spec.dtype, spec.shape) for spec in signature]
            in_session = session.run(build(*feeds), dict(zip(feeds, arrays)))
    for name, parts in found.items():
        if name not in RANDOM:
            assert_same(permuted[name], [part[order] for part in parts], 1e-9, f"{name}, permuted")
        assert_same(in_session[name], parts, 1e-9, f"{name}, session")
        for case, others in ("neighbour", beside), ("poisoned neighbour", beside_poison):
            assert_same([p[1:] for p in others[name]], [p[1:] for p in parts], 1e-9, f"{name}, {case}")


@check(
    share=0.7,
    network=random_networks.networks(),
    seed=SEEDS,
    static=st.booleans(),
    method=st.sampled_from([*RULES, "secant"]),
)
def test_neither_blocks_nor_columns_change_a_number(network, seed, static, method):
    xs, bs = random_networks.ends(network, seed)
    options = {"num_steps": STEPS, "method": method}

    def build(xs, bs):
        merged, ys = network.parts(*xs)
        whole = ig.integrated_gradients(ys, xs, bs, **options)
        narrower = ig.integrated_gradients(ys, xs, bs, max_rows=7, **options)
        columns = ig.integrated_jacobian(ys, xs, bs, **options)
        narrow = ig.integrated_jacobian(ys, xs, bs, max_rows=6, **options)
        layer = [[ig.layer_conductance(ys, merged, xs, bs, max_rows=n, **options)] for n in (None, 9)]
        return whole, narrower, columns, narrow, layer

    whole, narrower, columns, narrow, (layer, *layers) = run(build, xs, bs, static)
    # Rows of a softmax sum to 1, and their attributions to 0.
    assert_same(narrower, whole, 1e-9, floor=1e-12)
    assert_same([part.sum(1) for part in columns], whole, 1e-9, floor=1e-12)
    assert_same(narrow, columns, 1e-9, floor=1e-12)
    for some in layers:
        assert_same(some, layer, 1e-9, floor=1e-12)


@check(
    share=0.5,
    network=random_networks.networks(),
    seed=SEEDS,
    static=st.booleans(),
    steps=st.sampled_from([1, 3, 20]),
    broken=st.booleans(),
)
def test_any_path_is_complete_and_its_reverse_the_negative(network, seed, static, steps, broken):
    xs, bs = random_networks.ends(network, seed)

    def build(xs, bs):
        ys, path = score(network, xs), random_networks.path(xs, bs, seed, broken)
        there = ig.path_integrated_gradients(ys, xs, path, steps, "secant")
        home = ig.path_integrated_gradients(ys, xs, lambda ts: path([1 - t for t in ts]), steps, "secant")
        return there, home, ys, score(network, bs)

    there, home, after, before = run(build, xs, bs, static)
    bound = 1e-9 * total(map(np.abs, there)) + 1e-11 * (1 + np.abs(after) + np.abs(before))
    assert (np.abs(total(there) - (after - before)) <= bound).all()
    assert_same(home, [-part for part in there], 1e-7, floor=1e-12)


# The table of the documentation -----------------------------------------------------------------------


def table():
    """`CLAIMS` in Markdown."""
    lines = ["| | " + " | ".join(CLAIMS) + " |", "|---|" + "---|" * len(CLAIMS)]
    for name in METHODS:
        label, _, method = name.partition(", ")
        cells = [claims.get(name, "") for claims in CLAIMS.values()]
        lines.append(f"| `{label}`{', ' + method if method else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_table_of_the_documentation_claims_what_is_tested():
    page = (Path(__file__).parent.parent / "docs" / "axioms.md").read_text("utf-8")
    assert table() in page
    for name in set(re.findall(r"`(test_\w+)`", page)):
        assert name in globals(), name

"""Wrong arguments of every kind: a call either works or is refused by our own check."""

import os
import warnings

import numpy as np
import pytest
import tensorflow as tf

import igtf as ig
import igtf.evaluation as evaluation
import igtf.methods as methods

v1 = tf.compat.v1
CALLS = max(12, 2 * int(os.environ.get("EXAMPLES", 0)))  # of each function
B, F, C = 3, 4, 2
RNG = np.random.RandomState(0)
W, V = RNG.normal(size=(F, 5)).astype(np.float32), RNG.normal(size=(5, C)).astype(np.float32)
EAGER = tf.constant([[1.0] * F] * B)
VARIABLE = tf.Variable([[1.0] * F] * B)
with tf.Graph().as_default():
    FOREIGN = v1.placeholder(tf.float32, [B, F], "foreign")
KERAS = tf.keras.Input((F,))


class Scene:
    """A small network in the graph under construction, with what stands beside it."""

    def __init__(self, rows):
        self.x = v1.placeholder(tf.float32, [rows, F], "x")
        self.u = v1.placeholder(tf.float32, [rows, F], "u")
        self.h = tf.nn.relu(self.x @ W + tf.tanh(self.u) @ W)
        self.y = tf.nn.softmax(self.h @ V)
        self.stray = v1.placeholder(tf.float32, [rows, F], "stray")
        self.ids = v1.placeholder(tf.int32, [rows, F], "ids")
        self.feed = {self.x: RNG.normal(size=(B, F)), self.u: RNG.normal(size=(B, F))}
        self.feed.update({self.stray: np.ones([B, F]), self.ids: np.ones([B, F])})


def tensors(s):
    """What may be given for a tensor."""
    return [
        *(None, 3, 1.5, True, "x", b"x", object(), [], (), {}, [[]], np.ones([B, F]), EAGER, VARIABLE, KERAS),
        *(FOREIGN, s.ids, s.stray, s.x, s.u, s.h, s.y, s.y[:, 0], s.y[0, 0], tf.argmax(s.y, 1), [s.x, s.u]),
        *({"a": s.x, "b": s.u}, [s.x, [s.u]], [s.x, None], [s.x, EAGER], [s.x, FOREIGN], [s.x, s.x]),
        *(tf.cast(s.x, tf.float64), tf.cast(s.x, tf.complex64), tf.cast(s.x, tf.bool), tf.as_string(s.x)),
        *(tf.sparse.from_dense(s.x), tf.RaggedTensor.from_tensor(s.x), tf.stop_gradient(s.y), s.x[:2]),
        *(
            tf.reshape(s.x, [-1]),
            tf.transpose(s.x),
            tf.zeros([0, F]),
            tf.reduce_sum(s.y),
            tf.TensorShape([3]),
        ),
        *(
            v1.placeholder_with_default(np.ones([B, F], np.float32), None),
            tf.identity,
            np.float32,
            tf.float32,
        ),
    ]


def scalars(s):
    """What may be given for a number, a baseline or a weight."""
    return [
        *(
            np.nan,
            np.inf,
            -np.inf,
            1e38,
            10**40,
            -1,
            0,
            True,
            1j,
            "0",
            b"0",
            [],
            {},
            [1.0] * F,
            [[1.0] * F] * B,
        ),
        *(np.ones(F), np.ones([1, F]), np.ones([B, F]), np.ones([2, F]), np.ones([B, F, 1]), np.ones([F, B])),
        *(
            np.ones(F, object),
            np.array(["a"] * F),
            np.ones(F, np.int64),
            np.ones(F, complex),
            [None],
            [1.0, 2.0],
        ),
        *([[1.0], [1.0, 2.0]], {"a": 0.0}, object(), np.full(F, np.nan), np.ones([0, F]), tf.ones([B, C])),
        *tensors(s),
    ]


NUMBERS = [
    *(
        0,
        -1,
        1,
        2,
        1.5,
        2.0,
        None,
        "3",
        b"3",
        True,
        np.int64(3),
        np.float64(3),
        np.nan,
        np.inf,
        10**7,
        10**30,
    ),
    *(
        -(10**30),
        [],
        [3],
        (2, 2),
        {},
        1j,
        object(),
        np.array(3),
        np.array([3]),
        EAGER,
        int,
        "secant",
        (0,),
        (2, 9),
    ),
]
WORDS = [
    None,
    3,
    "nope",
    "Secant",
    b"secant",
    ["secant"],
    {},
    True,
    "",
    np.str_("secant"),
    EAGER,
    "auto",
    "secant",
]
WORDS += ["riemann_trapezoid", "riemann_left", object, ("gausslegendre",), np.nan, "gausslegendre\n"]


def number(s):
    return NUMBERS


def word(s):
    return WORDS


def per_row(s):
    return [[t] for t in tensors(s)] + tensors(s)


def paths(s):
    """Functions of the time, and points."""
    ways = [lambda t: t, lambda t: s.x, lambda t: None, lambda: s.x, lambda t: t * s.u, lambda t: [t * s.x]]
    ways += [lambda t: tf.cast(t * s.x, tf.float64), lambda t: t * s.x[:1], np.ones([2, B, F])]
    ways += [np.ones([1, B, F]), tf.stack([s.x, s.u, s.x]), tf.stack([s.x, s.u], 1)]
    return ways + [t for t in tensors(s) if not callable(t)]


def masks(s):
    """What may be given for a feature_mask."""
    ids = [0, 2, 2, 1]
    return [ids, np.array(ids, np.uint8), np.zeros([B, F], int), tf.constant(ids), *scalars(s)]


def builders(s):
    return [t for t in tensors(s) if not callable(t)] + [lambda ys, xs: xs, methods.saliency]


def judged(s):
    return {"ys": s.y, "xs": s.x, "attributions": tf.identity(s.x)}


def changes(s):
    """Functions that change inputs."""
    ways = [lambda xs, n: xs, lambda xs, n: None, lambda xs: xs, lambda xs, n: xs[:, :1], lambda xs, n: s.u]
    ways += [lambda xs, n: [xs], lambda xs, n: tf.cast(xs, tf.int32), lambda xs, n: np.ones([B, F])]
    return ways + [t for t in tensors(s) if not callable(t)]


# function -> (a call that works, what else may be given for each argument)
PATH = {"baselines": scalars, "num_steps": number, "method": word, "per_row": per_row, "max_rows": number}
ONE = {"ys": tensors, "xs": tensors}
MOVED = {"num_steps": number, "method": word, "per_row": per_row, "max_rows": number}
MOVED |= {"grad_ys": scalars, "tolerance": number}
MASK = {"feature_mask": masks, "num_groups": number}
JUDGED = {**ONE, **MASK, "attributions": tensors, "baselines": scalars, "grad_ys": scalars}
JUDGED |= {"max_rows": number}


def recipe(s):
    inter, stepsize, _ = ig.linear_interpolation(s.x, 4)
    return {"inter": inter, "stepsize": stepsize, "output": tf.reduce_sum(inter**2, 1), "num_steps": 4}


def convolved(s):
    line = s.x[:, :, None]
    layer = tf.nn.relu(line * np.float32([1, -1]))
    return {"ys": tf.reduce_mean(layer, 1), "layer": layer, "xs": line}


FUNCTIONS = {
    ig.linear_interpolation: (
        lambda s: {"x": s.x, "num_steps": 4},
        {"x": tensors, "num_steps": number, "baseline": scalars, "method": word},
    ),
    ig.linear_inpterpolation: (lambda s: {"sample": s.x}, {"sample": tensors, "num_steps": number}),
    ig.build_ig: (
        recipe,
        {"inter": tensors, "stepsize": tensors, "output": tensors, "num_steps": number},
    ),
    ig.integrated_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {**ONE, **PATH, "grad_ys": scalars, "tolerance": number},
    ),
    ig.integrated_jacobian: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {**ONE, **PATH, "tolerance": number},
    ),
    ig.layer_conductance: (
        lambda s: {"ys": s.y, "layer": s.h, "xs": s.x, "num_steps": 3},
        {**ONE, **PATH, "layer": tensors, "grad_ys": scalars, "tolerance": number},
    ),
    ig.neuron_conductance: (
        lambda s: {"ys": s.y, "unit": s.h[:, 1], "xs": s.x, "num_steps": 3},
        {**ONE, **PATH, "unit": tensors, "grad_ys": scalars, "tolerance": number},
    ),
    ig.path_integrated_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "path": lambda t: t * s.x, "num_steps": 3},
        {**ONE, **MOVED, "path": paths},
    ),
    ig.blur_integrated_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "axes": [1], "num_steps": 3},
        {**ONE, **MOVED, "max_sigma": number, "axes": number},
    ),
    ig.sequential_integrated_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {**ONE, **MOVED, "baselines": scalars, "axis": number},
    ),
    ig.guided_integrated_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {
            **{**ONE, "baselines": scalars, "num_steps": number, "method": word, "grad_ys": scalars},
            **{"per_row": per_row, "fraction": number, "max_dist": number},
        },
    ),
    ig.integrated_hessians: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {
            **{**ONE, "baselines": scalars, "num_steps": number, "grad_ys": scalars},
            **{"per_row": per_row, "pairs": number, "beta": number},
        },
    ),
    ig.attribution_error: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {**ONE, **PATH, "grad_ys": scalars},
    ),
    ig.convergence_delta: (
        lambda s: {"ys": s.y, "xs": s.x, "baselines": None, "attributions": s.x},
        {**ONE, "baselines": scalars, "attributions": tensors, "grad_ys": scalars, "per_row": per_row},
    ),
    ig.path_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "num_steps": 3},
        {**ONE, "baselines": scalars, "num_steps": number, "grad_ys": scalars, "per_row": per_row},
    ),
    ig.graph_replace: (
        lambda s: {"ys": s.y, "xs": s.x, "replacements": s.stray},
        {**ONE, "replacements": tensors, "per_row": per_row},
    ),
    ig.backpropagate: (
        lambda s: {"ys": s.y, "xs": s.x, "grad_ys": None, "rules": {}},
        {**ONE, "grad_ys": scalars},
    ),
    methods.saliency: (lambda s: {"ys": s.y, "xs": s.x}, {**ONE, "grad_ys": scalars}),
    methods.gradient_times_input: (lambda s: {"ys": s.y, "xs": s.x}, {**ONE, "grad_ys": scalars}),
    methods.grad_cam: (lambda s: convolved(s), {**ONE, "layer": tensors, "grad_ys": scalars}),
    methods.layer_cam: (lambda s: convolved(s), {**ONE, "layer": tensors, "grad_ys": scalars}),
    methods.guided_backpropagation: (lambda s: {"ys": s.y, "xs": s.x}, {**ONE, "grad_ys": scalars}),
    methods.epsilon_lrp: (
        lambda s: {"ys": s.y, "xs": s.x},
        {**ONE, "grad_ys": scalars, "epsilon": number},
    ),
    methods.deeplift: (lambda s: {"ys": s.y, "xs": s.x}, {**ONE, "grad_ys": scalars, "baselines": scalars}),
    methods.occlusion: (
        lambda s: {"ys": s.y, "xs": s.x},
        {**ONE, **MASK, "window_shape": number, "strides": number, "baseline": scalars, "grad_ys": scalars},
    ),
    methods.shapley_value_sampling: (
        lambda s: {"ys": s.y, "xs": s.x, "num_samples": 1},
        {**ONE, **MASK, "sampling_dims": number, "baselines": scalars, "seed": number, "grad_ys": scalars},
    ),
    methods.kernel_shap: (
        lambda s: {"ys": s.y, "xs": s.x},
        {**ONE, **MASK, "baselines": scalars, "seed": number, "grad_ys": scalars, "num_samples": number}
        | {"max_rows": number},
    ),
    methods.expected_gradients: (
        lambda s: {"ys": s.y, "xs": s.x, "baselines": np.zeros([2, F]), "num_samples": 2},
        {**ONE, "baselines": scalars, "seed": number, "grad_ys": scalars},
    ),
    methods.smoothgrad: (
        lambda s: {"builder": methods.saliency, "ys": s.y, "xs": s.x, "stdev": 0.1, "num_samples": 2},
        {**ONE, "builder": builders, "stdev": scalars, "seed": number},
    ),
    ig.deletion: (lambda s: {**judged(s), "num_steps": 2}, {**JUDGED, "num_steps": number}),
    ig.insertion: (lambda s: {**judged(s), "num_steps": 2}, {**JUDGED, "num_steps": number}),
    ig.infidelity: (
        lambda s: {**judged(s), "num_samples": 3},
        {
            **{**JUDGED, "num_samples": number, "fraction": number, "stdev": scalars, "perturb": changes},
            **{"seed": number, "normalize": number, "multiply_by_inputs": number},
        },
    ),
    ig.mu_fidelity: (
        lambda s: {**judged(s), "num_samples": 3},
        {**JUDGED, "num_samples": number, "fraction": number, "seed": number, "ranks": number},
    ),
    ig.average_drop_increase: (
        judged,
        {**ONE, "attributions": tensors, "baselines": scalars, "grad_ys": scalars},
    ),
    ig.sensitivity_max: (
        lambda s: {"builder": methods.saliency, "ys": s.y, "xs": s.x, "num_samples": 2},
        {**ONE, "builder": builders, "radius": scalars, "seed": number, "normalize": number}
        | {"num_samples": number},
    ),
    ig.sparseness: (lambda s: {"attributions": s.x}, {"attributions": tensors}),
    ig.pointing_game: (
        lambda s: {"attributions": s.x, "mask": True},
        {"attributions": tensors, "mask": scalars},
    ),
}


def shapes(function, arguments):
    """What the call has to return, as static shapes; None where it is not the shape of an argument."""
    like = {"layer_conductance": "layer", "graph_replace": "ys"}.get(function.__name__, "xs")
    others = ("smoothgrad", "attribution_error", "convergence_delta", "path_gradients")
    others += ("integrated_hessians", "grad_cam", "layer_cam", *evaluation.__all__)
    if like not in arguments or function.__name__ in others:
        return None
    if arguments.get("sampling_dims") is not None:
        return None
    found = [list(t.shape) if t.shape.rank is not None else None for t in tf.nest.flatten(arguments[like])]
    if function.__name__ == "integrated_jacobian":
        units = arguments["ys"].shape[1]
        found = [None if f is None else [f[0], units, *f[1:]] for f in found]
    return found


def refusals(function):
    """How messages of a function may begin."""
    names = [function.__name__]
    names += {"linear_inpterpolation": ["linear_interpolation"], "smoothgrad": ["saliency"]}.get(names[0], [])
    names += ["saliency"] if names[0] == "sensitivity_max" else []
    return tuple(f"{name}: " for name in names)


def unknown(structure):
    """Whether a shape is left to the run, which then says what does not fit."""
    flat = tf.nest.flatten(structure)
    return any(isinstance(t, tf.Tensor) and t.shape.rank is None for t in flat)


def show(arguments, changed):
    return {name: repr(arguments[name])[:80] for name in changed}


@pytest.mark.thin
@pytest.mark.filterwarnings("ignore::UserWarning")  # ops without a rule
@pytest.mark.parametrize("rows", [B, None], ids=["static batch", "dynamic batch"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_call_works_or_is_refused_by_its_own_check(function, rows):
    valid, wrong = FUNCTIONS[function]
    random = np.random.RandomState(len(function.__name__) + 7 * (rows is None))
    problems, worked, refused = [], 0, 0
    with tf.Graph().as_default(), v1.Session() as session:
        scene = Scene(rows)
        choices = {name: values(scene) for name, values in wrong.items()}
        for _ in range(CALLS // 2):
            arguments = valid(scene)
            changed = random.permutation(list(wrong))[: random.choice([1, 1, 2])].tolist()
            for name in changed:
                values = choices[name]
                arguments[name] = values[random.randint(len(values))]
            try:
                result = function(**arguments)
            except (ValueError, TypeError) as error:
                refused += 1
                if not str(error).startswith(refusals(function)):
                    problems.append((show(arguments, changed), f"{type(error).__name__}: {error}"[:200]))
                continue
            except Exception as error:
                problems.append((show(arguments, changed), f"{type(error).__name__}: {error}"[:200]))
                continue
            worked += 1
            try:
                flat = tf.nest.flatten(result)
                found = session.run(flat, scene.feed)
            except tf.errors.InvalidArgumentError as error:
                if rows is not None and not unknown([arguments[name] for name in changed]):
                    problems.append((show(arguments, changed), f"run: {error.message}"[:200]))
                continue
            wanted = shapes(function, arguments)
            if wanted is not None:
                for array, shape in zip(found, wanted, strict=True):
                    shape = shape and [B if n is None else n for n in shape]
                    if shape is not None and list(array.shape) != shape:
                        problems.append((show(arguments, changed), f"shape {array.shape}, not {shape}"))
    assert not problems, "\n".join(map(str, problems))
    assert refused >= 3


def test_a_call_without_a_graph_is_refused():
    x = tf.ones([B, F])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (ig.integrated_gradients, ig.integrated_jacobian, methods.saliency, methods.deeplift):
            with pytest.raises(TypeError, match=f"^{function.__name__}: .*eager.*tf.function"):
                function(x, x)

"""One checklist for every public graph builder."""

import functools
import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

import igtf as ig
import igtf.evaluation as evaluation
import igtf.methods as methods

v1 = tf.compat.v1
RNG = np.random.RandomState(0)
W, U, V = (RNG.normal(size=size) for size in ((4, 5), (3, 5), (5, 2)))
X, Z = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 3))


def network(x, z=None):
    """`[B, 2]`; `h` is the hidden layer."""
    h = tf.nn.relu(x @ tf.constant(W, x.dtype) + (0 if z is None else tf.tanh(z) @ tf.constant(U, x.dtype)))
    # The plain sum of a softmax is 1 for every input.
    return h, tf.nn.softmax(h @ tf.constant(V, x.dtype)) * tf.constant([1, -2], x.dtype)


def outputs(xs):
    return network(*tf.nest.flatten(xs))


def like(value, xs):
    return tf.nest.map_structure(lambda x: tf.fill([2, *x.shape[1:]], tf.cast(value, x.dtype)), xs)


def recipe(xs, **options):
    inter, stepsize, _ = ig.linear_interpolation(xs, 4, 0.1)
    return ig.build_ig(inter, stepsize, outputs(inter)[1][:, 0], 4, **options)


def delta(xs, **options):
    ys = outputs(xs)[1]
    return ig.convergence_delta(ys, xs, 0.1, xs, **options)


def scaled(xs):
    """The straight path from zeros, as a function of the time."""
    return lambda times: tf.nest.map_structure(tf.multiply, times, xs)


def unit(xs, **options):
    hidden, ys = outputs(xs)
    return ig.neuron_conductance(ys, hidden[:, 1], xs, 0.1, 4, **options)


def convolved(xs, method, **options):
    """Of a layer of a network that convolves its first input, a line of features."""
    line = tf.nest.flatten(xs)[0][:, :, None]
    layer = tf.nn.relu(tf.nn.conv1d(line, tf.constant(W[:3, None, :], line.dtype), 2, "SAME"))
    return method(tf.reduce_mean(layer, 1) @ tf.constant(V, line.dtype), layer, line, **options)


def judged(xs, metric, **options):
    """A metric of one unit more of each feature as its attribution, of an output above 0."""
    return metric(tf.exp(outputs(xs)[1]), xs, tf.nest.map_structure(lambda x: x + 1, xs), **options)


# name -> function of the inputs (tensor or structure) and of what every builder takes: `name`
BUILDERS = {
    "linear_interpolation": lambda xs, **o: ig.linear_interpolation(xs, 4, 0.1, **o)[0],
    "linear_inpterpolation": lambda xs: ig.linear_inpterpolation(xs, 4)[0],
    "build_ig": recipe,
    "integrated_gradients": lambda xs, **o: ig.integrated_gradients(outputs(xs)[1], xs, 0.1, 4, **o),
    "integrated_jacobian": lambda xs, **o: ig.integrated_jacobian(outputs(xs)[1], xs, 0.1, 4, **o),
    "layer_conductance": lambda xs, **o: ig.layer_conductance(*outputs(xs)[::-1], xs, 0.1, 4, **o),
    "neuron_conductance": unit,
    "path_integrated_gradients": lambda xs, **o: ig.path_integrated_gradients(
        outputs(xs)[1], xs, scaled(xs), 4, **o
    ),
    "blur_integrated_gradients": lambda xs, **o: ig.blur_integrated_gradients(
        outputs(xs)[1], xs, 2.0, [1], 4, **o
    ),
    "sequential_integrated_gradients": lambda xs, **o: ig.sequential_integrated_gradients(
        outputs(xs)[1], xs, 0.1, 1, 4, **o
    ),
    "guided_integrated_gradients": lambda xs, **o: ig.guided_integrated_gradients(
        outputs(xs)[1], xs, 0.1, 4, **o
    ),
    "integrated_hessians": lambda xs, **o: ig.integrated_hessians(outputs(xs)[1], xs, 0.1, None, 4, **o),
    "path_gradients": lambda xs, **o: ig.path_gradients(outputs(xs)[1], xs, 0.1, 3, **o)[0],
    "attribution_error": lambda xs, **o: ig.attribution_error(outputs(xs)[1], xs, 0.1, 4, **o),
    "convergence_delta": delta,
    "graph_replace": lambda xs, **o: ig.graph_replace(
        outputs(xs)[1], xs, tf.nest.map_structure(lambda x: x + 1, xs), **o
    ),
    "backpropagate": lambda xs, **o: ig.backpropagate(outputs(xs)[1], xs, None, {}, **o),
    "saliency": lambda xs, **o: methods.saliency(outputs(xs)[1], xs, **o),
    "gradient_times_input": lambda xs, **o: methods.gradient_times_input(outputs(xs)[1], xs, **o),
    "grad_cam": lambda xs, **o: convolved(xs, methods.grad_cam, **o),
    "layer_cam": lambda xs, **o: convolved(xs, methods.layer_cam, **o),
    "guided_backpropagation": lambda xs, **o: methods.guided_backpropagation(outputs(xs)[1], xs, **o),
    "epsilon_lrp": lambda xs, **o: methods.epsilon_lrp(outputs(xs)[1], xs, **o),
    "deeplift": lambda xs, **o: methods.deeplift(outputs(xs)[1], xs, 0.1, **o),
    "occlusion": lambda xs, **o: methods.occlusion(outputs(xs)[1], xs, baseline=0.1, **o),
    "shapley_value_sampling": lambda xs, **o: methods.shapley_value_sampling(
        outputs(xs)[1], xs, 2, baselines=0.1, seed=1, **o
    ),
    "kernel_shap": lambda xs, **o: methods.kernel_shap(
        outputs(xs)[1], xs, num_samples=12, baselines=0.1, seed=1, **o
    ),
    "expected_gradients": lambda xs, **o: methods.expected_gradients(
        outputs(xs)[1], xs, like(0.1, xs), 2, seed=1, **o
    ),
    "smoothgrad": lambda xs, **o: methods.smoothgrad(
        methods.saliency, outputs(xs)[1], xs, 0.1, 2, seed=1, **o
    ),
    "deletion": lambda xs, **o: judged(xs, ig.deletion, baselines=0.1, **o),
    "insertion": lambda xs, **o: judged(xs, ig.insertion, baselines=0.1, **o),
    "infidelity": lambda xs, **o: judged(xs, ig.infidelity, baselines=0.1, seed=1, **o),
    "mu_fidelity": lambda xs, **o: judged(xs, ig.mu_fidelity, baselines=0.1, fraction=0.5, seed=1, **o),
    "average_drop_increase": lambda xs, **o: judged(xs, ig.average_drop_increase, baselines=0.1, **o)[0],
    "sensitivity_max": lambda xs, **o: ig.sensitivity_max(
        ig.saliency, outputs(xs)[1], xs, 0.1, 2, seed=1, **o
    ),
    "sparseness": lambda xs, **o: ig.sparseness(xs, **o),
    "pointing_game": lambda xs, **o: ig.pointing_game(
        xs, tf.nest.map_structure(lambda x: [True] * 2 + [False] * (x.shape[1] - 2), xs), **o
    ),
}
FUNCTIONS = {name: getattr(ig, name, None) or getattr(methods, name) for name in BUILDERS}
# A score for each row.
SCORES = {"attribution_error", "convergence_delta", *evaluation.__all__}
# What is returned has not the structure of the inputs.
OTHERWISE = {
    *SCORES,
    "layer_conductance",
    "grad_cam",
    "layer_cam",
    "integrated_hessians",
    "graph_replace",
}

builders = pytest.mark.parametrize("name", BUILDERS)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # softmax has no rule in LRP


def shape(name, rows, features):
    """Of what is returned for inputs `[rows, features]`."""
    return {
        "linear_interpolation": (4 * rows, features),
        "linear_inpterpolation": (4 * rows, features),
        "integrated_jacobian": (rows, 2, features),
        "layer_conductance": (rows, 5),
        "integrated_hessians": (rows, features, features),
        "path_gradients": (3, rows, features),
        "graph_replace": (rows, 2),
        "grad_cam": (rows, features, 1),
        "layer_cam": (rows, features, 1),
    }.get(name, (rows,) if name in SCORES else (rows, features))


def in_session(build, arrays, static, also=()):
    """What `build` makes of a structure, as values, and of others of its structure; and its tensors."""
    with tf.Graph().as_default(), v1.Session() as session:
        xs = tf.nest.map_structure(
            lambda a: v1.placeholder(a.dtype, [len(a) if static else None, *a.shape[1:]]), arrays
        )
        built = build(xs)
        found = [
            session.run(built, dict(zip(tf.nest.flatten(xs), tf.nest.flatten(a)))) for a in (arrays, *also)
        ]
        return *found, built


@functools.cache
def three_rows(name, static):
    """A graph that several tests look at: its values, of an open batch for one row and none; its tensor."""
    return in_session(BUILDERS[name], X, static, () if static else (X[:1], X[:0]))


def test_every_public_builder_is_on_the_list():
    assert set(BUILDERS) == set(ig.__all__) - {"Explainer"}


@pytest.mark.thin
@builders
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_shapes_are_known_and_right_for_one_row_and_for_many(name, static):
    many, *others, of_many = three_rows(name, static)
    one, of_one = in_session(BUILDERS[name], X[:1], True) if static else (others[0], of_many)
    for rows, found, tensor in ((3, many, of_many), (1, one, of_one)):
        assert found.shape == shape(name, rows, 4)
        assert np.isfinite(found).all()
        assert tensor.shape.is_compatible_with(found.shape)
        if name not in ("convergence_delta", "linear_inpterpolation", "linear_interpolation", "build_ig"):
            assert tensor.shape.rank == found.ndim


@builders
def test_an_empty_batch_gives_an_empty_result(name):
    _, _, empty, _ = three_rows(name, False)
    assert empty.shape == shape(name, 0, 4)


@pytest.mark.thin
@builders
@pytest.mark.parametrize(
    "make", [lambda x, z: (x, z), lambda x, z: {"x": x, "z": [z]}], ids=["tuple", "list in a dict"]
)
def test_structures_come_back(name, make):
    arrays = make(X, Z)
    found, _ = in_session(BUILDERS[name], arrays, True)
    if name in OTHERWISE:
        features = 7 if name == "integrated_hessians" else 4
        assert not tf.nest.is_nested(found) and found.shape == shape(name, 3, features)
        return
    tf.nest.assert_same_structure(found, arrays)
    for part, width in zip(tf.nest.flatten(found), (4, 3)):
        assert part.shape == shape(name, 3, width)


@pytest.mark.thin
@builders
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_result_has_the_dtype_of_the_input_and_its_precision(name, dtype):
    dtype = tf.as_dtype(dtype)
    exact, _ = three_rows(name, True)
    found, tensor = in_session(BUILDERS[name], X.astype(dtype.as_numpy_dtype), True)
    wide = name in SCORES
    assert tensor.dtype == (tf.float32 if wide and dtype.size < 4 else dtype)
    tolerance = {2: 0.1, 4: 1e-5}[dtype.size]
    scale = 1 if name == "attribution_error" else np.abs(exact).max()  # errors are relative already
    assert np.abs(found.astype(np.float64) - exact).max() <= tolerance * scale


@builders
def test_nothing_is_added_but_nodes_under_its_own_name(name):
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float64, [None, 4], "x")
        network(x)
        if "name" in inspect.signature(FUNCTIONS[name]).parameters and name != "build_ig":
            before = set()

            def watched(*args, **options):
                before.update(op.name for op in graph.get_operations())
                return original(*args, name="mine", **options)

            original = FUNCTIONS[name]
            module = methods if name in methods.__all__ else ig
            try:
                setattr(module, name, watched)
                BUILDERS[name](x)
            finally:
                setattr(module, name, original)
            new = [op.name for op in graph.get_operations() if op.name not in before]
            assert new and [n for n in new if not n.startswith("mine/")] == []
        else:
            BUILDERS[name](x)
        kinds = {op.type for op in graph.get_operations()}
        assert not kinds & {
            "VarHandleOp",
            "VariableV2",
            "ReadVariableOp",
            "Assign",
            "AssignVariableOp",
            "Print",
        }
        assert [
            key for key in graph.get_all_collection_keys() if "while" not in key and "cond" not in key
        ] == []


@builders
def test_two_calls_give_the_same_numbers(name):
    first = three_rows(name, True)[0]
    second = in_session(BUILDERS[name], X, True)[0]
    np.testing.assert_array_equal(first, second)


@builders
def test_a_session_and_a_traced_function_agree(name):
    wanted = three_rows(name, False)[0]
    found = tf.function(BUILDERS[name], autograph=False)(tf.constant(X)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@builders
def test_eager_tensors_are_refused_by_name(name):
    function = FUNCTIONS[name]
    needed = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    known = {"builder": methods.saliency, "rules": {}, "num_samples": 2, "stdev": 0.1}
    arguments = [known.get(p.name, tf.ones([3, 4])) for p in needed]
    label = name.replace("inpter", "inter")
    with pytest.raises(TypeError, match=f"^{label}: .*eager.*tf.function"):
        function(*arguments)


@builders
def test_the_docstring_says_what_goes_in_comes_out_and_is_refused(name):
    text = inspect.getdoc(FUNCTIONS[name])  # Python 3.13 indents docstrings less
    assert re.match(r"\S.*[.:]$", text.splitlines()[0])
    if name == "linear_inpterpolation":
        return  # another name for linear_interpolation
    parts = [text.find(f"\n{part}:\n") for part in ("Args", "Returns", "Raises")]
    assert -1 < parts[0] < parts[1] < parts[2] < text.find(">>> ")
    listed = text[parts[0] : parts[1]]
    for argument in inspect.signature(FUNCTIONS[name]).parameters:
        assert re.search(rf"\b{argument}\b", listed), argument

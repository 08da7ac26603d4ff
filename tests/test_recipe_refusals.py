"""What the recipe refuses, and what it says."""

import re

import numpy as np
import pytest
import tensorflow as tf
from shared_networks import cubes, recipe

import igtf as ig

EAGER, VARIABLE = tf.ones([50, 3]), tf.Variable([[1.0]])
FURTHER = r".*\. [A-Z]"  # one more sentence


class TestBadInput:
    """Every message says what came in, what was expected and, in a further sentence, what to do."""

    CASES = {
        "an eager x": (
            lambda x: ig.linear_interpolation(EAGER),
            TypeError, "x is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "a variable as x": (
            lambda x: ig.linear_interpolation(VARIABLE),
            TypeError, "x is a variable", "tensor of the graph", "tensor = tf.identity",
        ),
        "an array as x": (
            lambda x: ig.linear_interpolation(np.ones([2, 3])),
            TypeError, "x is a ndarray", "tensor of the graph", "Pass the tensor",
        ),
        "a KerasTensor as x": (
            lambda x: ig.linear_interpolation(tf.keras.Input([3])),
            TypeError, "x is a KerasTensor", "not a tensor of a graph", "Call the model on a tensor",
        ),
        "a KerasTensor among several": (
            lambda x: ig.linear_interpolation({"a": x, "b": tf.keras.Input([3])}),
            TypeError, "x is a KerasTensor", "not a tensor of a graph", "Call the model on a tensor",
        ),
        "a sparse x": (
            lambda x: ig.linear_interpolation(tf.sparse.from_dense(x)),
            TypeError, "x is a SparseTensor", "dense tensor", "tf.sparse.to_dense",
        ),
        "integers": (
            lambda x: ig.linear_interpolation(tf.cast(x, tf.int32)),
            TypeError, "has dtype int32", "floating dtype", "Attribute to the embedding's output instead",
        ),
        "strings": (
            lambda x: ig.linear_interpolation(tf.as_string(x)),
            TypeError, "has dtype string", "floating dtype", "Attribute to the embedding's output instead",
        ),
        "no batch dimension": (
            lambda x: ig.linear_interpolation(x[0, 0]),
            ValueError, "is a scalar", r"\[B, ...\] with a batch", "tf.expand_dims",
        ),
        "no inputs": (
            lambda x: ig.linear_interpolation([]),
            ValueError, r"x is \[\]", "at least one tensor", FURTHER,
        ),
        "inputs of several batch sizes": (
            lambda x: ig.linear_interpolation([tf.ones([2, 3]), tf.ones([4, 3])]),
            ValueError, r"have \[2, 4\] rows", "the same number", "belong together",
        ),
        "steps as a float": (
            lambda x: ig.linear_interpolation(x, 50.0),
            TypeError, "num_steps is 50.0 of type float", "positive Python int", FURTHER,
        ),
        "steps as a truth value": (
            lambda x: ig.linear_interpolation(x, True),
            TypeError, "num_steps is True of type bool", "positive Python int", FURTHER,
        ),
        "steps as a tensor": (
            lambda x: ig.linear_interpolation(x, tf.shape(x)[0]),
            TypeError, "num_steps is <tf.Tensor.*of type", "positive Python int", FURTHER,
        ),
        "no steps": (
            lambda x: ig.linear_interpolation(x, 0),
            ValueError, "num_steps is 0", "1 to 1,000,000", FURTHER,
        ),
        "fewer than no steps": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s, o, num_steps=-1)),
            ValueError, "build_ig: num_steps is -1", "1 to 1,000,000", FURTHER,
        ),
        "more than a million steps": (
            lambda x: ig.linear_interpolation(x, 1_000_001),
            ValueError, "num_steps is 1000001", "1 to 1,000,000", FURTHER,
        ),
        "one point for a trapezoid": (
            lambda x: ig.linear_interpolation(x, 1, method="riemann_trapezoid"),
            ValueError, "num_steps is 1", "2 to 1,000,000", FURTHER,
        ),
        "an unknown method": (
            lambda x: ig.linear_interpolation(x, method="simpson"),
            ValueError, "method is 'simpson'", "one of", "riemann_left.*gausslegendre" + FURTHER,
        ),
        "a method that is no string": (
            lambda x: recipe(cubes, x, method=["secant"]),
            ValueError, r"method is \['secant'\]", "one of", "riemann_left.*gausslegendre" + FURTHER,
        ),
        "a baseline with other features": (
            lambda x: ig.linear_interpolation(x, baseline=np.zeros(4)),
            ValueError, r"baseline has shape \(4,\)", r"broadcasts to \(None, 3\)", "one row",
        ),
        "a baseline of higher rank": (
            lambda x: ig.linear_interpolation(x, baseline=np.zeros([1, 1, 3])),
            ValueError, r"baseline has shape \(1, 1, 3\)", r"broadcasts to \(None, 3\)", "one row",
        ),
        "a baseline with more rows than x": (
            lambda x: ig.linear_interpolation(tf.ensure_shape(x, [1, 3]), baseline=np.zeros([2, 3])),
            ValueError, r"baseline has shape \(2, 3\)", r"broadcasts to \(1, 3\)", "one row",
        ),
        "a baseline of another dtype": (
            lambda x: ig.linear_interpolation(x, baseline=tf.zeros([3], tf.float64)),
            TypeError, "baseline has dtype float64", "float32", "tf.cast",
        ),
        "a baseline that is no number": (
            lambda x: ig.linear_interpolation(x, baseline="zeros"),
            TypeError, "baseline of type str", "a number, an array or a tensor", "broadcasts to",
        ),
        "a baseline for one of two inputs": (
            lambda x: ig.linear_interpolation([x, x], baseline=[0.5]),
            ValueError, r"baseline has the structure \[float\]", "one scalar", "that of the inputs" + FURTHER,
        ),
        "a baseline under another key": (
            lambda x: ig.linear_interpolation({"a": x}, baseline={"b": 0.5}),
            ValueError, "baseline has the structure {'b'", "one scalar", "that of the inputs" + FURTHER,
        ),
        "an eager output": (
            lambda x: ig.build_ig(*ig.linear_interpolation(x)[:2], EAGER),
            TypeError, "output is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "an eager inter": (
            lambda x: ig.build_ig(EAGER, x, x),
            TypeError, "inter is eager", "tensor of the graph", "Wrap the call in @tf.function",
        ),
        "an output of x instead of inter": (
            lambda x: ig.build_ig(*ig.linear_interpolation(x)[:2], cubes(x)),
            ValueError, "no gradient flows from output", "to inter", "Call the network on inter",
        ),
        "ids made of inter": (
            lambda x: recipe(lambda z: tf.gather(tf.ones([9]), tf.cast(z[:, 0], tf.int32)), x),
            ValueError, "no gradient flows from output", "differentiable", "ids",
        ),
        "a stopped gradient": (
            lambda x: recipe(lambda z: tf.stop_gradient(cubes(z)), x),
            ValueError, "no gradient flows from output", "differentiable", "tf.stop_gradient",
        ),
        "classes instead of scores": (
            lambda x: recipe(lambda z: tf.argmax(z, axis=1), x),
            (TypeError, ValueError), "output", "expected", "argmax",
        ),
        "a loss over the batch": (
            lambda x: recipe(lambda z: tf.reduce_sum(z), x),
            ValueError, "output '.*' is a scalar", r"\[S \* B, ...\]", "output for every row",
        ),
        "an output with the rows of x": (
            lambda x: recipe(lambda z: cubes(z)[:2], tf.ensure_shape(x, [2, 3])),
            ValueError, r"output '.*' has shape \(2,\)", r"\(100,\) rows as inter", "Pass what the network",
        ),
        "another number of steps": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s, o, num_steps=10)),
            ValueError, "inter '.*' has 20 points", "multiple of 10 rows", "the same num_steps",
        ),
        "another number of steps, static batch": (
            lambda x: with_mistake(
                tf.ensure_shape(x, [2, 3]), lambda i, s, o: ig.build_ig(i, s, o, num_steps=10)
            ),
            ValueError, "inter '.*' has 20 points", "multiple of 10 rows", "the same num_steps",
        ),
        "a stepsize of another shape": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, s[:, :2], o, 20)),
            ValueError, r"stepsize is float32 \(None, 2\)", r"float32 \(None, 3\) as inter", "Pass both as",
        ),
        "a stepsize of another dtype": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig(i, tf.cast(s, tf.float64), o, 20)),
            ValueError, "stepsize is float64", "float32", "Pass both as",
        ),
        "a stepsize of another structure": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig([i], (s,), o, 20)),
            ValueError, r"stepsize has the structure \(\w*Tensor\)", r"that of inter, \[\w*Tensor\]", FURTHER,
        ),
        "a stepsize that is missing": (
            lambda x: with_mistake(x, lambda i, s, o: ig.build_ig([i, i], [s], o, 20)),
            ValueError, "stepsize has the structure", "that of inter", FURTHER,
        ),
    }  # fmt: skip

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_it_is_refused_with_what_came_in_what_was_expected_and_what_to_do(self, case):
        call, error, came, expected, advice = case
        with pytest.raises(error) as caught:
            tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec([None, 3], tf.float32))
        message = str(caught.value)
        assert message.startswith(("linear_interpolation: ", "build_ig: "))
        assert re.search(f"(?s){came}.*{expected}.*{advice}", message), message

    def test_a_tensor_from_inside_a_function_is_refused_outside(self):
        leaked = []
        function = tf.function(lambda x: leaked.append(x) or x)  # as long as it lives, so does its graph
        function(tf.ones([2, 3]))
        with pytest.raises(TypeError, match="x is a graph tensor.*outside its graph.*inside the same"):
            ig.linear_interpolation(leaked[0])

    @pytest.mark.parametrize("argument", ["x", "baseline"])
    def test_eager_tensors_are_refused_in_the_graph_of_a_session(self, argument):
        with tf.Graph().as_default():
            x = tf.compat.v1.placeholder(tf.float32, [None, 3])
            arguments = {"x": x, **{argument: EAGER}}
            with pytest.raises(TypeError, match=f"{argument} is eager.*expected"):
                ig.linear_interpolation(**arguments)

    def test_a_fed_baseline_that_does_not_broadcast_fails_and_says_so(self):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 3])
            inter, _, ref = ig.linear_interpolation(x, 2)
            for wrong in (np.zeros(4), np.zeros([3, 3])):
                with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)shape"):
                    session.run(inter, {x: np.zeros([2, 3]), ref: wrong})


def with_mistake(x, build):
    inter, stepsize, _ = ig.linear_interpolation(x, 20)
    return build(inter, stepsize, cubes(inter))

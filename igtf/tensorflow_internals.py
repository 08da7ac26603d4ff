"""TensorFlow's private modules, where nothing public will do."""

import tensorflow as tf

# What tf.gradients asks for the gradient of an op.
# Ops made by tf.Graph.create_op are not on the tapes that watch, and tf.GradientTape would take what is
# computed from them for constants.
from tensorflow.python.eager.execute import must_record_gradient, record_gradient
from tensorflow.python.framework.ops import get_gradient_function

# Whether tf.function(jit_compile=True) is being traced: its shapes must be known when it is compiled.
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

__all__ = ["compiles_with_xla", "get_gradient_function", "must_record_gradient", "record_gradient"]


def compiles_with_xla():
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())

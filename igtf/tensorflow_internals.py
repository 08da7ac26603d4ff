"""TensorFlow's private modules, where nothing public will do."""

# What tf.gradients asks for the gradient of an op.
# Ops made by tf.Graph.create_op are not on the tapes that watch, and tf.GradientTape would take what is
# computed from them for constants.
from tensorflow.python.eager.execute import must_record_gradient, record_gradient
from tensorflow.python.framework.ops import get_gradient_function

__all__ = ["get_gradient_function", "must_record_gradient", "record_gradient"]

"""The table of secant's rules: op type -> rule. To add a rule, write it beside its like and enter it here."""

import tensorflow as tf

from igtf.arithmetic import row_sum
from igtf.op_types import AFFINE, LINEAR, TYPES
from igtf.secant.choices import choice_rule, old_select_rule, reduced_choice_rule, select_rule
from igtf.secant.elementwise import (
    abs_slope,
    bent_slope,
    complex_abs_rule,
    elementwise,
    leaky_relu_slope,
    norm_rule,
    pointwise_rule,
    power_rule,
    relu6_slope,
    relu_slope,
    rsqrt_slope,
    smooth_slope,
    sqrt_slope,
)
from igtf.secant.loops import loop_rule
from igtf.secant.pooling import pool_rule
from igtf.secant.products import (
    CONVOLUTION,
    convolution_rule,
    linear_in,
    linear_rule,
    matmul_rule,
    middle_rule,
    pass_on,
    product_rule,
    quotient_rule,
    reshape_rule,
    sum_rule,
)
from igtf.secant.softmax import softmax_rule


def _real(rule):
    """The rule of elementwise ops and products, for real numbers; complex ones take the general rule."""

    def either(op, other, grads):
        tensors = [*op.op.outputs[:1], *(op.op.inputs[i] for i in op.slots)]
        return (pointwise_rule if any(t.dtype.is_complex for t in tensors) else rule)(op, other, grads)

    return either


# op type -> rule(op, other, grads). What is not listed gets `default_rule`.
SECANT_RULES = {
    **dict.fromkeys((t for t, slots in AFFINE.items() if slots not in ("all", "one")), linear_rule),
    **dict.fromkeys(("AddN", "Pack", "ConcatV2", "BiasAddGrad"), linear_rule),
    **{kind: linear_in(slots) for kind, slots in LINEAR.items()},
    **dict.fromkeys(TYPES["smooth"], _real(elementwise(smooth_slope))),
    **dict.fromkeys(TYPES["pointwise"], pointwise_rule),
    **dict.fromkeys(("Elu", "Selu"), elementwise(bent_slope)),
    "Relu": elementwise(relu_slope),
    "Relu6": elementwise(relu6_slope),
    "LeakyRelu": elementwise(leaky_relu_slope),
    "Abs": elementwise(abs_slope),
    "ComplexAbs": complex_abs_rule,
    "Sqrt": _real(elementwise(sqrt_slope)),
    "Rsqrt": _real(elementwise(rsqrt_slope)),
    "Square": _real(elementwise(lambda op, other: op.inputs[0] + other.inputs[0])),
    **dict.fromkeys(
        ("Reciprocal", "Inv"),
        _real(elementwise(lambda op, other: -op.outputs[0] * other.outputs[0])),
    ),
    "Pow": _real(power_rule),
    **dict.fromkeys(("Add", "AddV2"), sum_rule(1, 1)),
    "Sub": sum_rule(1, -1),
    "Mul": _real(product_rule),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _real(quotient_rule)),
    "SquaredDifference": middle_rule,
    "L2Loss": middle_rule,
    "EuclideanNorm": norm_rule,
    "MatMul": matmul_rule,
    **dict.fromkeys(TYPES["bilinear"], middle_rule),
    "Maximum": choice_rule(tf.greater_equal),
    "Minimum": choice_rule(tf.less_equal),
    "SelectV2": select_rule,
    "Select": old_select_rule,
    **dict.fromkeys(("Max", "Min"), reduced_choice_rule),
    **dict.fromkeys(("MaxPool", "MaxPool3D"), pool_rule),
    "Softmax": softmax_rule(lambda g, p, wp, mean: mean * g - tf.reduce_sum(wp * row_sum(p * g), axis=0)),
    "LogSoftmax": softmax_rule(lambda g, p, wp, mean: g - mean * row_sum(g)),
    "Conv2D": convolution_rule(tf.raw_ops.Conv2DBackpropInput, *CONVOLUTION),
    "DepthwiseConv2dNative": convolution_rule(tf.raw_ops.DepthwiseConv2dNativeBackpropInput, *CONVOLUTION),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), reshape_rule),
    **dict.fromkeys(("Identity", "IdentityN", "StopGradient"), pass_on),
    "BiasAdd": lambda op, other, grads: [grads[0], None],
    "Loop": loop_rule,
}

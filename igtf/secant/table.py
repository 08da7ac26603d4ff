"""The table of secant's rules: op type -> rule. To add a rule, write it beside its like and enter it here."""

import tensorflow as tf

from igtf.arithmetic import row_sum
from igtf.op_types import AFFINE, LINEAR, TYPES
from igtf.secant import choices, loops, products
from igtf.secant import elementwise as slopes
from igtf.secant.elementwise import elementwise
from igtf.secant.pooling import pool_rule
from igtf.secant.softmax import softmax_rule


def _real(rule):
    """The rule of elementwise ops and products, for real numbers; complex ones take the general rule."""

    def either(op, other, grads):
        tensors = [*op.op.outputs[:1], *(op.op.inputs[i] for i in op.slots)]
        chosen = slopes.pointwise_rule if any(t.dtype.is_complex for t in tensors) else rule
        return chosen(op, other, grads)

    return either


# op type -> rule(op, other, grads). What is not listed gets `default_rule`.
SECANT_RULES = {
    **{kind: products.linear_in(slots) for kind, slots in AFFINE.items() if slots != "one"},
    **{kind: products.linear_in(slots) for kind, slots in LINEAR.items()},
    **dict.fromkeys(TYPES["smooth"], _real(elementwise(slopes.smooth_slope))),
    **dict.fromkeys(TYPES["pointwise"], slopes.pointwise_rule),
    **dict.fromkeys(("Elu", "Selu"), elementwise(slopes.smooth_slope)),
    "Relu": elementwise(slopes.relu_slope),
    "Relu6": elementwise(slopes.relu6_slope),
    "LeakyRelu": elementwise(slopes.leaky_relu_slope),
    "Abs": elementwise(slopes.abs_slope),
    "ComplexAbs": slopes.complex_abs_rule,
    "Sqrt": _real(elementwise(slopes.sqrt_slope)),
    "Rsqrt": _real(elementwise(slopes.rsqrt_slope)),
    "Square": _real(elementwise(lambda op, other: op.inputs[0] + other.inputs[0])),
    **dict.fromkeys(
        ("Reciprocal", "Inv"), _real(elementwise(lambda op, other: -op.outputs[0] * other.outputs[0]))
    ),
    "Pow": _real(slopes.power_rule),
    **dict.fromkeys(("Add", "AddV2"), products.sum_rule(1, 1)),
    "Sub": products.sum_rule(1, -1),
    "Mul": _real(products.product_rule),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), _real(products.quotient_rule)),
    **dict.fromkeys(("MatMul", "SquaredDifference", "L2Loss", *TYPES["bilinear"]), products.middle_rule),
    "Maximum": choices.choice_rule(tf.greater_equal),
    "Minimum": choices.choice_rule(tf.less_equal),
    **dict.fromkeys(("Select", "SelectV2"), choices.select_rule),
    **dict.fromkeys(("Max", "Min"), choices.reduced_choice_rule),
    **dict.fromkeys(("MaxPool", "MaxPool3D"), pool_rule),
    "Softmax": softmax_rule(lambda g, p, wp, mean: mean * g - tf.reduce_sum(wp * row_sum(p * g), axis=0)),
    "LogSoftmax": softmax_rule(lambda g, p, wp, mean: g - mean * row_sum(g)),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), products.reshape_rule),
    **dict.fromkeys(("Identity", "IdentityN", "StopGradient"), products.pass_on),
    "Loop": loops.loop_rule,
}

"""What is known of the types of ops, as data."""

import numpy as np
import tensorflow as tf

from igtf.tensorflow_internals import get_gradient_function


def gradient_of(op):
    """TensorFlow's gradient function of `op`: None if it is flat, LookupError if there is none."""
    if op.type in FLAT:
        return None
    # What custom gradients wrap is differentiated instead of them.
    return len if op.type == "IdentityN" else get_gradient_function(op)


def carries_gradient(tensor):
    return tensor.dtype.is_floating or tensor.dtype in (tf.variant, tf.complex64, tf.complex128)


def types(names):
    return frozenset(names.split())


UNKNOWN = -1  # the axis that carries the rows, where it cannot be followed
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
FRAMES = {"Enter", "Exit", "NextIteration", "LoopCond", "RefEnter", "RefExit", "RefNextIteration"}
SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
LIKES = {"ZerosLike", "OnesLike"}
BARRIERS = SHAPES | LIKES | {"StopGradient"}
FLAT = types("Ceil Floor FloorDiv PyFunc PyFuncStateless Rint Round Sign TruncateDiv")  # of slope 0 all over
INPUTS = {
    "Placeholder",
    "PlaceholderWithDefault",
    "IteratorGetNext",
    "IteratorGetNextSync",
    "QueueDequeueManyV2",
    "QueueDequeueUpToV2",
}
RANDOM_OPS = types(
    """
    Multinomial ParameterizedTruncatedNormal StatefulTruncatedNormal StatefulUniform StatelessMultinomial
    StatelessParameterizedTruncatedNormal StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
    """
)
UNIFORM = {"RandomUniform", "StatefulUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"}
NORMAL = types(
    """
    RandomStandardNormal StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal
    StatelessRandomNormal StatelessRandomNormalV2 StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
    """
)
FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
RISING_OR_FALLING = {"Add", "AddV2", "Cast", "Div", "Identity", "Mul", "Neg", "RealDiv", "Sub"}
THRESHOLD_OPS = {"Floor", "Greater", "GreaterEqual", "Less", "LessEqual"}
FIRST_ONLY = types(
    """
    AvgPool AvgPool3D BatchToSpaceND BroadcastTo Cast Conv2D Conv3D Cumsum DepthToSpace
    DepthwiseConv2dNative ExpandDims FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GatherNd
    GatherV2 Identity Mean MirrorPad Neg Pad PadV2 RealDiv ResizeBilinear Reshape
    ResizeNearestNeighbor ReverseV2 Roll Slice SpaceToBatchND SpaceToDepth SplitV Squeeze
    StridedSlice Sum Tile Transpose Unpack
    """
)
# Affine ops: type -> slots of the inputs that may vary. "one": any single one of them.
AFFINE = {
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "Pack", "ConcatV2", "BiasAdd", "IdentityN"), "all"),
    **dict.fromkeys(("Mul", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), "one"),
    "Einsum": "one",
    "SelectV2": (1, 2),
    "Split": (1,),
    "Conv2DBackpropInput": (2,),
    "Conv3DBackpropInputV2": (2,),
    "DepthwiseConv2dNativeBackpropInput": (2,),
    **dict.fromkeys(FIRST_ONLY, (0,)),
}


def varying_slots(op, varying):
    return [i for i, t in enumerate(op.inputs) if t.ref() in varying]


def is_linear(op, varying):
    """Whether `op` is affine in those of its inputs that vary."""
    slots = varying_slots(op, varying)
    allowed = AFFINE.get(op.type)
    if allowed is None or not slots or not all(t.dtype.is_floating for t in op.outputs[:1]):
        return False
    if not all(op.inputs[i].dtype.is_floating for i in slots):
        return False
    if op.type.startswith("FusedBatchNorm") and op.get_attr("is_training"):
        return False
    if allowed == "one":
        return len(slots) == 1
    return allowed == "all" or set(slots) <= set(allowed)


def is_affine(op, varying, affine):
    return is_linear(op, varying) and all(t.ref() in affine for t in op.inputs if t.ref() in varying)


RANKS = types(
    """
    Dilation2D FractionalMaxPool MaxPoolWithArgmax SegmentMax SegmentMin TopK TopKV2 UnsortedSegmentMax
    UnsortedSegmentMin
    """
)
KINKS = {"Relu", "Relu6", "LeakyRelu", "Selu", "Abs", "MaxPool", "MaxPool3D", "MaxPoolV2", "Max", "Min"}


def is_kink(op, varying):
    if not op.outputs or not op.outputs[0].dtype.is_floating:
        return False
    slots = varying_slots(op, varying)
    if op.type in ("Maximum", "Minimum"):
        return bool(slots) and not (len(slots) == 1 and _is_guard(op, slots[0]))
    if op.type in ("Select", "SelectV2"):
        return 0 in slots and not _is_equality(op.inputs[0], varying)
    return op.type in KINKS and 0 in slots


def _is_equality(condition, varying):
    """Whether a condition flips at single points of a path only, which no step has to meet."""
    found, stack = set(), [condition]
    while stack:
        tensor = stack.pop()
        if tensor.ref() in varying and tensor.ref() not in found and tensor.op.type not in EQUALITIES:
            found.add(tensor.ref())
            if tensor.dtype.is_floating or not tensor.op.inputs or tensor.op.type in COMPARISONS:
                return False
            stack.extend(tensor.op.inputs)
    return True


EQUALITIES = {"Equal", "NotEqual", "IsFinite", "IsInf", "IsNan"}
COMPARISONS = {"Greater", "GreaterEqual", "Less", "LessEqual"}


def _is_guard(op, slot):
    """max(norm, epsilon) and its like keep a root or a norm from 0: no kink that a path meets."""
    epsilon = tf.get_static_value(op.inputs[1 - slot])
    roots = {"Sqrt", "Rsqrt"}
    return (
        epsilon is not None
        and bool(np.all(epsilon > 0))
        and (
            op.inputs[slot].op.type in roots | {"Sum"}
            or any(consumer.type in roots for consumer in op.outputs[0].consumers())
        )
    )


UNARY = types(
    """
    Abs Acos Acosh Angle Asin Asinh Atan Atanh BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1
    BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1 Cast Ceil CheckNumerics CheckNumericsV2 ComplexAbs
    Conj Cos Cosh Dawsn Digamma Elu Erf Erfc Erfinv Exp Expint Expm1 Floor FresnelCos FresnelSin Identity Imag
    Inv Invert IsFinite IsInf IsNan LeakyRelu Lgamma Log Log1p LogicalNot Ndtri Neg OnesLike PreventGradient
    Real Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Sinh Snapshot Softplus Softsign Spence
    Sqrt Square StopGradient Tan Tanh ZerosLike
    """
)
BROADCASTING = types(
    """
    Add AddN AddV2 Atan2 BiasAddV1 ClipByValue Complex Div DivNoNan Equal FloorDiv FloorMod Greater
    GreaterEqual Igamma Igammac Less LessEqual LogicalAnd LogicalOr Maximum Minimum Mod Mul MulNoNan NextAfter
    NotEqual Polygamma Pow RealDiv SelectV2 SquaredDifference Sub TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
    Zeta
    """
)
REDUCTIONS = {"All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum", "ArgMax", "ArgMin"}
OPAQUE = {"While", "StatelessWhile", "If", "StatelessIf", "Switch", "RefSwitch", "Merge", "RefMerge"}
REPEATABLE = {"All", "Any", "Max", "Mean", "Min"}  # the same of rows as of the same rows several times
LAST_AXIS = types(
    """
    FFT HSVToRGB IFFT IRFFT LogSoftmax LRN MatrixDiag MatrixDiagV2 MatrixDiagV3 NthElement RFFT RGBToHSV
    Softmax TopK TopKV2
    """
)
LAST_TWO_AXES = types(
    """
    BatchMatrixBandPart Cholesky Eig FFT2D IFFT2D IRFFT2D LogMatrixDeterminant MatrixBandPart
    MatrixDeterminant MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixExponential MatrixInverse
    MatrixLogarithm MatrixSquareRoot Qr RFFT2D SelfAdjointEigV2 Svd
    """
)
SYSTEMS = types("BandedTriangularSolve MatrixSolve MatrixSolveLs MatrixTriangularSolve TridiagonalSolve")
SCATTERS = types("TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate")
SEGMENTS = types(
    """
    SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum UnsortedSegmentMax UnsortedSegmentMin
    UnsortedSegmentProd UnsortedSegmentSum
    """
)
IMAGES = types(
    """
    Dilation2D ExtractImagePatches ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    ScaleAndTranslate
    """
)
POOLS = types("AvgPool AvgPool3D MaxPool MaxPool3D MaxPoolWithArgmax")
# Made of a shape: type -> the slot of it.
MAKERS = {"Fill": 0, "BroadcastTo": 1, "Tile": 1, "Range": 1, "TensorListReserve": 0, "EmptyTensorList": 0}
# Slots of shapes and bounds, which may count the rows.
SHAPE_SLOTS = {
    **dict.fromkeys(("Reshape", "BroadcastTo", "Tile", "TopKV2"), (1,)),
    **dict.fromkeys(("Slice", "StridedSlice"), (1, 2)),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), (0,)),
    "DepthwiseConv2dNativeBackpropInput": (0,),
    **dict.fromkeys(("TensorListFromTensor", "TensorListStack"), (1,)),
    "TensorListGetItem": (2,),
    **dict.fromkeys(("While", "StatelessWhile"), range(10**6)),
    **dict.fromkeys(("If", "StatelessIf"), range(1, 10**6)),
}
LOOPS = {"While", "StatelessWhile"}
BRANCHES = {"If", "StatelessIf"}
BATCH_NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
# The branches of TensorFlow 1 have no gradient inside its loops: their blocks are written out.
LOOPLESS = {"Switch", "Merge", "RefSwitch", "RefMerge"}

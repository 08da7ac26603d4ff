"""What is known of the types of ops, as data: one entry a type.

`FACTS` has what the rooms ask, in these words:

    where the rows go    unary, broadcasting, reduction, last_axis, last_two_axes, system, segment, scatter,
                         image, pool; repeatable: the same of rows as of the same rows several times;
                         makes:i: a tensor of the shape that input i has
    shape_slots:i        inputs that are shapes; shape, like: ops that read nothing but shapes
    affine:i             the inputs in which it is affine together; any one of them
    linear:i             likewise, of ops that are not interpolated before the steps
    bilinear             linear in each of its inputs
    smooth, pointwise    elementwise functions of one input, and of any number of them
    kink, switches:c     its gradient jumps; where its input crosses c
    ranks, flat          it chooses by rank; its slope is 0 wherever it has one
    norm:i               input i stands in a denominator, under a root or a logarithm
    rising               elementwise and rising, so that max pooling may come before it
    monotonic, threshold what a random draw may pass through to a decision, and what decides
    equality             conditions that flip at single points
    carrier, sums        what hands values on unchanged, and what adds them up
    input, random        placeholders and their like; draws (uniform, normal)
    call, loop, branch   of functions; frame, loopless: control flow of TensorFlow 1
"""

import numpy as np
import tensorflow as tf

from igtf.tensorflow_internals import get_gradient_function

FACTS = {
    "unary": "ComplexAbs Invert LogicalNot PreventGradient Square StopGradient",
    "unary equality": "IsFinite IsInf IsNan",
    "unary flat": "Ceil Rint Round Sign",
    "unary flat threshold": "Floor",
    "unary kink rising switches:0": "Relu Selu",
    "unary kink rising switches:0,6": "Relu6",
    "unary kink switches:0": "Abs LeakyRelu",
    "unary like": "OnesLike ZerosLike",
    "unary linear:0": "CheckNumerics CheckNumericsV2 Conj Imag Real Snapshot",
    "unary monotonic affine:0": "Neg",
    "unary monotonic carrier affine:0": "Cast Identity",
    "unary norm:0": "Inv Reciprocal Rsqrt Sqrt",
    "unary pointwise": "Angle",
    "unary rising smooth": "Sigmoid Softplus Tanh",
    "unary rising switches:0": "Elu",
    "unary smooth": """
        Acos Acosh Asin Asinh Atan Atanh BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1
        BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1 Cos Cosh Dawsn Digamma Erf Erfc
        Erfinv Exp Expint Expm1 FresnelCos FresnelSin Lgamma Log1p Ndtri Sin Sinh Softsign Spence
        Tan
    """,
    "unary smooth norm:0": "Log",
    "broadcasting": "FloorMod LogicalAnd LogicalOr Maximum Minimum Mod Pow SquaredDifference TruncateMod",
    "broadcasting carrier affine:1,2": "SelectV2",
    "broadcasting equality": "Equal NotEqual",
    "broadcasting flat": "FloorDiv TruncateDiv",
    "broadcasting linear:0,1": "BiasAddV1 Complex",
    "broadcasting monotonic affine:0 norm:1": "RealDiv",
    "broadcasting monotonic affine:0-": "Sub",
    "broadcasting monotonic affine:one": "Mul",
    "broadcasting monotonic norm:1": "Div",
    "broadcasting monotonic sums affine:0-": "Add AddV2",
    "broadcasting norm:1": "DivNoNan",
    "broadcasting pointwise": """
        Atan2 ClipByValue Igamma Igammac MulNoNan NextAfter Polygamma Xdivy Xlog1py Xlogy Zeta
    """,
    "broadcasting sums affine:0-": "AddN",
    "broadcasting threshold": "Greater GreaterEqual Less LessEqual",
    "reduction": "ArgMax ArgMin EuclideanNorm Prod",
    "reduction repeatable": "All Any",
    "reduction repeatable kink": "Max Min",
    "reduction repeatable sums affine:0": "Mean",
    "reduction sums affine:0": "Sum",
    "affine:0": """
        BatchToSpaceND Conv2D Conv3D Cumsum DepthToSpace DepthwiseConv2dNative MirrorPad Pad PadV2
        ReverseV2 Roll SpaceToBatchND SpaceToDepth SplitV Transpose Unpack
    """,
    "affine:0 linear:0": "GatherNd GatherV2",
    "affine:0 shape_slots:1 makes:1": "BroadcastTo Tile",
    "affine:0 shape_slots:1,2": "Slice",
    "affine:1": "Split",
    "affine:2 shape_slots:0": "Conv2DBackpropInput Conv3DBackpropInputV2 DepthwiseConv2dNativeBackpropInput",
    "affine:0-": "BiasAdd ConcatV2 IdentityN Pack",
    "linear:0": """
        BatchToSpace BiasAddGrad ConjugateTranspose CropAndResize Diag DiagPart DynamicPartition EnsureShape
        ExtractVolumePatches FFT3D Gather IFFT3D ImageProjectiveTransformV2
        ImageProjectiveTransformV3 MirrorPadGrad Reverse ReverseSequence SpaceToBatch
        SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
        SparseSegmentSqrtNWithNumSegments SparseSegmentSum SparseSegmentSumWithNumSegments
    """,
    "linear:0,1": "MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3",
    "linear:0,2": "ScatterNdNonAliasingAdd",
    "linear:0,4": "TensorStridedSliceUpdate",
    "linear:0-": "AccumulateNV2 Concat DynamicStitch ParallelDynamicStitch",
    "linear:1": "AvgPool3DGrad AvgPoolGrad ScatterNd",
    "linear:1 makes:0": "Fill",
    "linear:4": "StridedSliceGrad",
    "bilinear": """
        Conv2DBackpropFilter Conv3DBackpropFilterV2 Cross DepthwiseConv2dNativeBackpropFilter
        SparseMatMul SparseTensorDenseMatMul TridiagonalMatMul
    """,
    "bilinear affine:one": "BatchMatMulV3",
    "pool affine:0": "AvgPool AvgPool3D",
    "pool kink": "MaxPool MaxPool3D",
    "pool ranks": "MaxPoolWithArgmax",
    "last_axis": "HSVToRGB LRN LogSoftmax NthElement RGBToHSV Softmax",
    "last_axis linear:0": "FFT IFFT IRFFT MatrixDiag MatrixDiagV2 MatrixDiagV3 RFFT",
    "last_axis ranks": "TopK",
    "last_axis ranks shape_slots:1": "TopKV2",
    "last_two_axes": """
        BatchMatrixBandPart Cholesky Eig LogMatrixDeterminant MatrixDeterminant MatrixExponential
        MatrixInverse MatrixLogarithm MatrixSquareRoot Qr SelfAdjointEigV2 Svd
    """,
    "last_two_axes linear:0": """
        FFT2D IFFT2D IRFFT2D MatrixBandPart MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 RFFT2D
    """,
    "system": "BandedTriangularSolve MatrixSolve MatrixSolveLs MatrixTriangularSolve TridiagonalSolve",
    "segment": "SegmentProd UnsortedSegmentProd",
    "segment linear:0": "SegmentMean SegmentSum UnsortedSegmentSum",
    "segment ranks": "SegmentMax SegmentMin UnsortedSegmentMax UnsortedSegmentMin",
    "scatter": "TensorScatterMax TensorScatterMin",
    "scatter linear:0,2": "TensorScatterAdd TensorScatterSub TensorScatterUpdate",
    "image": "ResizeArea",
    "image affine:0": "ResizeBilinear ResizeNearestNeighbor",
    "image linear:0": "ExtractImagePatches ResizeBicubic ScaleAndTranslate",
    "image ranks": "Dilation2D",
    "batch_norm affine:0": "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3",
    "branch shape_slots:1-": "If StatelessIf",
    "call": "PartitionedCall StatefulPartitionedCall",
    "carrier": "Select",
    "carrier affine:0": "ExpandDims Squeeze",
    "carrier affine:0 shape_slots:1": "Reshape",
    "carrier affine:0 shape_slots:1,2": "StridedSlice",
    "flat": "PyFunc PyFuncStateless",
    "frame": "Enter Exit LoopCond NextIteration RefEnter RefExit RefNextIteration",
    "input": """
        IteratorGetNext IteratorGetNextSync Placeholder PlaceholderWithDefault QueueDequeueManyV2
        QueueDequeueUpToV2
    """,
    "kink": "MaxPoolV2",
    "loop shape_slots:0-": "StatelessWhile While",
    "loopless": "Merge RefMerge RefSwitch Switch",
    "makes:0": "EmptyTensorList TensorListReserve",
    "makes:1": "Range",
    "normal": """
        RandomStandardNormal StatefulStandardNormal StatefulStandardNormalV2 StatelessRandomNormal
        StatelessRandomNormalV2
    """,
    "pointwise": "Betainc",
    "random": """
        Multinomial ParameterizedTruncatedNormal StatelessMultinomial
        StatelessParameterizedTruncatedNormal
    """,
    "random normal": """
        StatefulTruncatedNormal StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
    """,
    "random uniform": "StatefulUniform",
    "ranks": "FractionalMaxPool",
    "shape": "Rank Shape ShapeN Size",
    "shape_slots:1": "TensorListFromTensor TensorListStack",
    "shape_slots:2": "TensorListGetItem",
    "sums affine:one": "MatMul",
    "sums bilinear affine:one": "BatchMatMul BatchMatMulV2 Einsum",
    "uniform": "RandomUniform StatelessRandomUniform StatelessRandomUniformV2",
}


def _parsed(slots):
    """`"0,1"` -> (0, 1); `"1-"` -> all from 1 on; `"one"`, any but only one, stays a word."""
    if slots == "one":
        return slots
    return range(int(slots[:-1]), 10**6) if slots[-1] == "-" else tuple(map(int, slots.split(",")))


def _types_by_fact():
    found = {}
    for facts, types in FACTS.items():
        for fact in facts.split():
            word, _, slots = fact.partition(":")
            found.setdefault(word, {}).update((kind, slots and _parsed(slots)) for kind in types.split())
    return found


# fact -> {op type: its slots}
TYPES = _types_by_fact()
KINKS, RANKS, FLAT = TYPES["kink"], TYPES["ranks"], TYPES["flat"]
AFFINE, LINEAR, THRESHOLDS = TYPES["affine"], TYPES["linear"], TYPES["switches"]
NORMS = {kind: slots[0] for kind, slots in TYPES["norm"].items()}
MAKERS = {kind: slots[0] for kind, slots in TYPES["makes"].items()}
SHAPE_SLOTS = TYPES["shape_slots"]
CALLS, LOOPS, BRANCHES = (set(TYPES[word]) for word in ("call", "loop", "branch"))
FRAMES, LOOPLESS = TYPES["frame"], set(TYPES["loopless"])
OPAQUE = LOOPS | BRANCHES | LOOPLESS  # ops are within, or may not run
SHAPES, LIKES = set(TYPES["shape"]), set(TYPES["like"])
BARRIERS = SHAPES | LIKES | {"StopGradient"}
BATCH_NORMS, INPUTS = TYPES["batch_norm"], TYPES["input"]
# What shows entries of its first input and nothing else.
VIEWS = {"StridedSlice", "Slice", "Reshape", "Squeeze", "ExpandDims", "Identity", "GatherV2", "GatherNd"}
VIEWS |= {"Transpose", "Unpack", "SplitV"}
UNKNOWN = -1  # the axis that carries the rows, where it cannot be followed
FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def gradient_of(op):
    """TensorFlow's gradient function of `op`: None if it is flat, LookupError if there is none."""
    if op.type in FLAT:
        return None
    # What custom gradients wrap is differentiated instead of them.
    return len if op.type == "IdentityN" else get_gradient_function(op)


def carries_gradient(tensor):
    return tensor.dtype.is_floating or tensor.dtype in (tf.variant, tf.complex64, tf.complex128)


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
    return all(slot in allowed for slot in slots)


def is_affine(op, varying, affine):
    return is_linear(op, varying) and all(t.ref() in affine for t in op.inputs if t.ref() in varying)


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
        if tensor.ref() in varying and tensor.ref() not in found and tensor.op.type not in TYPES["equality"]:
            found.add(tensor.ref())
            if tensor.dtype.is_floating or not tensor.op.inputs or tensor.op.type in TYPES["threshold"]:
                return False
            stack.extend(tensor.op.inputs)
    return True


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

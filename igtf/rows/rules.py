"""The table of where the rows go: op type -> rule."""

from igtf.op_types import TYPES
from igtf.rows import arithmetic, control, structure

ROW_RULES = {
    **dict.fromkeys(TYPES["unary"], arithmetic.stay_place),
    **dict.fromkeys(TYPES["broadcasting"], arithmetic.broadcast_place),
    "Select": arithmetic.chosen_place,
    **dict.fromkeys(TYPES["reduction"], arithmetic.reduced_place),
    **dict.fromkeys(TYPES["last_axis"], arithmetic.working_on(arithmetic.last_axes(1))),
    **dict.fromkeys(TYPES["last_two_axes"], arithmetic.working_on(arithmetic.last_axes(2))),
    **dict.fromkeys(TYPES["system"], arithmetic.working_on(arithmetic.last_axes(2), inputs=2)),
    **dict.fromkeys(TYPES["segment"], structure.segmented_place),
    **dict.fromkeys(TYPES["scatter"], structure.scattered_place),
    **dict.fromkeys(TYPES["image"], arithmetic.working_on(lambda rows, op, rank: (1, 2))),
    **dict.fromkeys(
        ("DepthToSpace", "SpaceToDepth"), arithmetic.working_on(lambda rows, op, rank: (1, 2, 3))
    ),
    **dict.fromkeys(
        ("Cumsum", "Cumprod", "CumulativeLogsumexp"), arithmetic.working_on(arithmetic.axes_of_input(1))
    ),
    "ReverseV2": arithmetic.working_on(arithmetic.axes_of_input(1)),
    "Roll": arithmetic.working_on(arithmetic.axes_of_input(2)),
    "L2Loss": arithmetic.working_on(lambda rows, op, rank: range(rank)),
    "ReverseSequence": arithmetic.sequences_place,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), arithmetic.product_place),
    "SparseTensorDenseMatMul": arithmetic.sparse_product_place,
    "Einsum": arithmetic.einsum_place,
    "Reshape": structure.reshaped_place,
    "Transpose": structure.transposed_place,
    "ExpandDims": structure.expanded_place,
    "Squeeze": structure.squeezed_place,
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), structure.padded_place),
    **dict.fromkeys(("ConcatV2", "Pack"), structure.joined_place),
    "Unpack": structure.parted_place(0, lambda rows, op: op.get_attr("axis")),
    "Split": structure.parted_place(1, lambda rows, op: (rows.ints(op.inputs[0]) or [None])[0]),
    "SplitV": structure.parted_place(0, lambda rows, op: (rows.ints(op.inputs[2]) or [None])[0]),
    **dict.fromkeys(("Slice", "StridedSlice"), structure.sliced_place),
    "GatherV2": structure.gathered_place,
    "GatherNd": structure.gather_nd,
    "OneHot": structure.one_hot_place,
    "Tile": structure.tiled_place,
    "BroadcastTo": structure.stretched_place,
    "BiasAdd": arithmetic.bias_place,
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), arithmetic.batch_norm_place),
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), arithmetic.convolved_place),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), arithmetic.widened_place),
    "DepthwiseConv2dNativeBackpropInput": arithmetic.widened_place,
    **dict.fromkeys(TYPES["pool"], arithmetic.pooled_place),
    **dict.fromkeys(("SpaceToBatchND", "BatchToSpaceND"), arithmetic.blocks_place),
    **dict.fromkeys(
        ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"), arithmetic.losses_place
    ),
    **dict.fromkeys(("Switch", "RefSwitch"), control.switched_place),
    **dict.fromkeys(("Merge", "RefMerge"), control.merged_place),
    **dict.fromkeys(("TensorListFromTensor", "TensorListStack"), control.list_place),
    "TensorListGetItem": control.item_place,
    "TensorListSetItem": control.written_place,
    **dict.fromkeys(("While", "StatelessWhile"), control.looped_place),
    **dict.fromkeys(("If", "StatelessIf"), control.branched_place),
}

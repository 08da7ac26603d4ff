"""A part of a graph once more, on other tensors: `graph_replace`."""

from collections.abc import Sequence

import tensorflow as tf

from igtf.subgraph import Subgraph
from integrated_gradients_tf import Tensors, as_it_is, check_structure, check_tensor


@as_it_is
def graph_replace(
    ys: Tensors,
    xs: Tensors,
    replacements: Tensors,
    per_row: Sequence[tf.Tensor] | None = None,
    name: str = "graph_replace",
) -> Tensors:
    """Instantiates the ops between `xs` and `ys` once more, reading `replacements` for `xs`.

    What `tf.contrib.graph_editor.graph_replace` did: the network again, on other values, with its
    weights shared. Works inside the body of a `tf.while_loop` too.

    Args:
      ys: tensor or structure of tensors computed from `xs`.
      xs: tensor or structure of tensors `[B, ...]`.
      replacements: what to read instead, same structure and dtypes, `[k * B, ...]` for any whole
        `k >= 1`, step-major (all rows of the batch, `k` times).
      per_row: as for `integrated_gradients`: tensors beside `xs` with one entry per row, which are
        repeated `k` times.
      name: name scope of the nodes.

    Returns:
      The structure of `ys`, computed from `replacements`.

    Raises:
      TypeError: a tensor is eager or a KerasTensor, or a dtype differs.
      ValueError: structures or shapes differ, or the ops cannot be replayed.
      tf.errors.InvalidArgumentError: in the run, where rows cannot be followed from `xs` to `ys` and the
        replacements have other than those of `xs`.

    >>> @tf.function
    ... def f(x):
    ...     return graph_replace(x * 2 + 1, x, tf.constant([[5.0]]))
    >>> f(tf.constant([[1.0]])).numpy().tolist()
    [[11.0]]
    """
    function = "graph_replace"
    with tf.name_scope(name):
        subgraph = Subgraph(function, ys, xs, per_row, explain=False)
        check_structure(function, "replacements", replacements, "xs", xs)
        new = tf.nest.flatten(replacements)
        for x, value in zip(subgraph.xs, new):
            if tf.is_tensor(value) and not hasattr(value, "numpy"):
                check_tensor(function, "replacements", value)
            eager = hasattr(value, "numpy") and not tf.compat.v1.get_default_graph().building_function
            if not isinstance(value, tf.Tensor) or eager or value.dtype != x.dtype:
                raise TypeError(
                    f"{function}: the replacement of {x.name!r} is {value!r}, expected a tensor of dtype "
                    f"{x.dtype.name}."
                )
            if value.shape.rank is not None and x.shape.rank is not None:
                if value.shape.rank == 0 or not value.shape[1:].is_compatible_with(x.shape[1:]):
                    raise ValueError(
                        f"{function}: the replacement of {x.name!r} has shape {value.shape}, expected "
                        f"[k * B, ...] with {x.shape}."
                    )
        rows = new[0].shape.as_list()[0] if new[0].shape.rank else None
        copies = 1
        if subgraph.rows is None or rows is None:
            if not subgraph.stackable:
                new = subgraph.same_rows(new)
            elif subgraph.row_inputs:
                subgraph.check_lengths()
                copies = tf.shape(new[0])[0] // tf.shape(subgraph.xs[0])[0]
        elif rows % max(subgraph.rows, 1):
            raise ValueError(
                f"{function}: the replacements have {rows} rows, expected a multiple of {subgraph.rows}, the "
                "batch size of xs."
            )
        else:
            copies = rows // max(subgraph.rows, 1)
            if copies > 1 and not subgraph.stackable:
                raise ValueError(
                    f"{function}: the replacements have {rows} rows and the batch size {subgraph.rows} is "
                    f"part of the graph (at {subgraph.lost}). Replace with {subgraph.rows} rows, or build "
                    "the graph with an unknown batch size, as with tf.TensorSpec([None, ...])."
                )
        result = subgraph.replay(new, copies)
    return tf.nest.pack_sequence_as(ys, result)

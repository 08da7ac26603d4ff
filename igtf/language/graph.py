"""The graph that explains texts: traced once for ids of one length, then fed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from igtf.arithmetic import sum_features
from igtf.explainer.layers import recording
from igtf.explainer.network import inlined
from igtf.language.network import TextNetwork, at_positions, heads_of, lookups, mean_of_table
from igtf.replacement import graph_replace

__all__ = ["PREDICTED", "Setup", "class_scores", "next_tokens", "traced"]

PREDICTED = -1


@dataclasses.dataclass
class Setup:
    """What a TextExplainer was told; `traces` counts how often its model was traced."""

    network: TextNetwork
    method: Any
    mean: bool  # whether the mean of the table of embeddings is the baseline
    jit_compile: bool
    traces: int = 0


# What is explained: functions `(logits, ids, choice)` that return `ys [B, C]` and their weights, or None to
# explain every column by itself, and perhaps facts of the rows.


def class_scores(scores, ids, choice):
    """Scores `[B]` or `[B, C]` of a classifier, one for each row: that of a class, or the largest one.

    Also returns the classes, -1 for weighted sums, and how many there are.
    """
    if scores.shape.rank not in (1, 2):
        raise ValueError(
            f"TextExplainer: the model returns shape {scores.shape}, expected scores [B] or [B, C] of whole "
            "texts. Use explain_generation for the logits [B, T, V] of a language model."
        )
    ys = scores[:, None] if scores.shape.rank == 1 else scores
    counts = tf.fill(tf.shape(ys)[:1], tf.shape(ys)[1])
    if "weights" in choice:
        return ys, tf.cast(choice["weights"], ys.dtype), tf.fill(tf.shape(ys)[:1], PREDICTED), counts
    largest = tf.argmax(ys, axis=1, output_type=tf.int32)
    classes = tf.where(choice["classes"] == PREDICTED, largest, choice["classes"])
    return ys, tf.one_hot(classes, tf.shape(ys)[1], dtype=ys.dtype), classes, counts


def next_tokens(target, every):
    """Scores of chosen tokens at chosen places, `[B, C]`, for a `target` of `explain_generation`.

    `choice` holds `places [B, C]` of the tokens before them, `tokens [B, C]`, `rivals [B, C]`, and `weights
    [B, C]` unless `every` column is explained.
    """

    def scores(logits, ids, choice):
        found = at_positions(logits, ids, choice["places"])
        if found.dtype in (tf.float16, tf.bfloat16):
            found = tf.cast(found, tf.float32)
        if target == "log_prob":
            found = tf.nn.log_softmax(found)
        ys = tf.gather(found, choice["tokens"], batch_dims=2)
        if target == "contrast":
            ys -= tf.gather(found, choice["rivals"], batch_dims=2)
        return ys, None if every else tf.cast(choice["weights"], ys.dtype)

    return scores


def traced(
    setup: Setup,
    example: dict,
    explained: Callable,
    layer: Any = None,
    heads: bool = False,
    with_error: bool = False,
) -> Any:
    """A `tf.function` from arrays such as those of `example` to scores of tokens.

    Args:
      example: `inputs`, arrays `[B, T]` of the model by name; and for those that are token ids, by name,
        `starts`, ids to compare with; `moves`, Booleans, what differs from its baseline; `groups`, ints, what
        is switched together. `choice`: what `explained` takes.
      explained: `class_scores` or what `next_tokens` returns.
      layer: a layer whose units are explained along the path of the embeddings, summed for each place, or
        with `heads` for each head.

    The function returns a dict of tensors: `scores [B, C, T]` of the tokens of all ids, one input after the
    other (`C` is 1 for a weighted sum; `[B, C, heads]`), `outputs [B, C]`, and `base_values` and `errors
    [B, C]` where there are any.
    """

    def build(arrays):
        setup.traces += 1
        with recording([] if layer is None else [layer]) as seen:
            logits = setup.network(arrays["inputs"])
        hidden = [t for t in tf.nest.flatten(list(seen.values())) if tf.is_tensor(t) and t.dtype.is_floating]
        hidden = hidden[:1]
        if layer is not None and not hidden:
            raise ValueError(
                f"TextExplainer: layer {layer.name!r} returns nothing when the model runs, expected one that "
                "the output is computed from. Name another layer."
            )
        ids = [arrays["inputs"][name] for name in names]
        logits, *hidden = inlined([logits, *hidden], ids)
        if layer is not None and not heads and hidden[0].shape.rank != 3:
            raise ValueError(
                f"TextExplainer: layer {layer.name!r} returns shape {hidden[0].shape}, expected units "
                "[B, T, units] for each token. Name a layer of the transformer."
            )
        if heads:
            hidden = [heads_of(hidden[0], ids)]
        ys, weights, *beside_ys = explained(logits, ids, arrays["choice"])
        beside = {key: [arrays[key][name] for name in names] for key in ("starts", "moves", "groups")}
        made = _explain(setup, ids, beside, ys, weights, hidden, with_error)
        return made | dict(zip(("classes", "counts"), beside_ys))

    names = list(example["starts"])
    specs = tf.nest.map_structure(
        lambda a: tf.TensorSpec([None, *a.shape[1:]], tf.as_dtype(a.dtype)), example
    )
    compiled = True if setup.jit_compile else None
    function = tf.function(build, input_signature=[specs], jit_compile=compiled, autograph=False)
    return function.get_concrete_function()


def _explain(setup, ids, beside, ys, weights, hidden, with_error):
    method, every = setup.method, weights is None
    found = [lookups(ys, each) for each in ids]
    xs = [x for some in found for x in some]
    owner = [n for n, some in enumerate(found) for _ in some]
    before = _baselines(setup, ids, beside, found)
    further = {"return_error": True} if with_error else {}
    if method.black_box:
        further["feature_mask"] = [beside["groups"][n][..., None] for n in owner]
        further["num_groups"] = sum(each.shape[1] for each in ids)
    if hidden:
        further["layer"] = hidden[0]
    starts = before if method.takes_baselines else None
    explain = method.jacobian if every else method
    attributions = explain(ys, xs, starts, weights, **further)
    made = {"outputs": ys if every else _total(ys, weights)}
    if with_error:
        attributions, errors, _ = attributions
        made["errors"] = errors if every else errors[:, None]
    if method.takes_baselines and not method.draws:
        at = graph_replace(ys, xs, before)
        made["base_values"] = at if every else _total(at, weights)
    if hidden:
        scores = tf.reduce_sum(attributions, -1 if attributions.shape.rank == 3 else [1, 3])
    else:
        sums = [tf.reduce_sum(a, -1) for a in attributions]
        each = [tf.add_n([s for s, of in zip(sums, owner) if of == n]) for n in range(len(ids))]
        scores = tf.concat(each, -1)
    return made | {"scores": scores if every else scores[:, None]}


def _total(ys, weights):
    return sum_features(ys * weights)[:, None]


def _baselines(setup, ids, beside, found):
    """Where the embeddings start, one after the other."""
    starts = []
    for each, start, moves, some in zip(ids, beside["starts"], beside["moves"], found):
        if setup.mean:
            starts += [tf.where(moves[..., None], mean_of_table(x), x) for x in some]
        else:
            starts += graph_replace(some, each, start, per_row=[])
    return starts

"""Operators: what of a model's outputs is explained, chosen once at the inputs and held along the path.

An operator is a function `(model, inputs, targets)` of tensors that an `Explainer` calls in the graph. It
returns a scalar per row, `[B]`, or a pair of any outputs `[B, ...]` and of weights in their shape: the
weighted sum is explained, with the weights as they are at the inputs, whatever they depend on. The functions
here make such operators: `Explainer(model, operator="box")` is `operator=box()`.

Shapes: `B` rows, `A` boxes (or anchors) of a row, `C` classes, `D` outputs.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from igtf.arithmetic import sum_features
from igtf.explainer.arrays import describe, expected

__all__ = ["as_operator", "box", "distance", "reconstruction", "regression", "segment", "with_weights"]

SIDES = 4  # of a box


def box(explain: str | int = "class", form: str = "corners") -> Callable:
    """Of a detector, the class score, the objectness or a coordinate of one box of each row.

    The model returns boxes `[B, A, 4]`, scores `[B, A, C]` (or `[B, A]`) and maybe objectness `[B, A]`: as a
    dict with these names (or "classes" for the scores, as detectors of KerasHub), as a tuple in this order,
    or as one tensor `[B, A, 4 + 1 + C]` of boxes, objectness and scores, as Xplique takes. What it does after
    that, such as dropping boxes that overlap, has no gradient and does not belong to it.

    `targets` of `explain`: the numbers of the boxes, ints `[N]`; or boxes `[N, 4]`, for the one of each row
    that overlaps most with it (intersection over union) at the inputs; `None`, for the one with the largest
    score there (times objectness). A dict `{"box": one of these, "class": ints [N]}` says the class, too;
    left out, it is the one with the largest score of that box at the inputs. Box and class are held along the
    path.

    Args:
      explain: `"class"`, `"objectness"`, or the number of a coordinate, 0 to 3.
      form: what the coordinates are: `"corners"`, such as left, top, right, bottom; or `"center"`: its two
        coordinates, then the two lengths.

    Returns:
      An operator.

    Raises:
      ValueError: an argument that is none of these; outputs that are no boxes and scores; while it explains,
        a number of a box or class that is not there, or a box that overlaps with none.

    >>> scores = lambda x: tf.stack([x, 2 * x], axis=1)  # of two boxes, [B, 2, C]
    >>> boxes = tf.constant([[[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]]])
    >>> detector = lambda x: {"boxes": tf.tile(boxes, [tf.shape(x)[0], 1, 1]), "scores": scores(x)}
    >>> explainer = Explainer(detector, operator="box")
    >>> explainer.explain([[1.0, 3.0]], [[1.1, 0.0, 2.0, 1.0]], progress=False).tolist()
    [[0.0, 6.0]]
    """
    if explain not in ("class", "objectness", *range(SIDES)) or isinstance(explain, bool):
        raise ValueError(
            f"box: explain is {explain!r}, expected 'class', 'objectness' or a number from 0 to 3."
        )
    if form not in ("corners", "center"):
        raise ValueError(f"box: form is {form!r}, expected 'corners' or 'center'.")

    def operator(model, inputs, targets):
        boxes, scores, objectness = _detections(model(inputs))
        given = _named("box", targets, ("box", "class"))
        where = _box_number(given["box"], boxes, scores, objectness, form)
        anchors = tf.one_hot(where, tf.shape(boxes)[1], dtype=scores.dtype)
        if explain == "objectness":
            if objectness is None:
                raise ValueError(
                    "Explainer: operator box explains 'objectness' and the model returns boxes and scores "
                    "alone, expected objectness [B, A], too. Explain 'class'."
                )
            return objectness, tf.cast(anchors, objectness.dtype)
        if explain == "class":
            ys, column = scores, _class_of(given["class"], tf.gather(scores, where, batch_dims=1))
        else:
            ys, column = boxes, explain * tf.ones_like(where)
        columns = tf.one_hot(column, tf.shape(ys)[2], dtype=ys.dtype)
        return ys, tf.cast(anchors, ys.dtype)[:, :, None] * columns[:, None, :]

    return _as_written(operator)


def segment() -> Callable:
    """Of a network that segments, the mean output (such as the logit) of a class in a region of each row.

    The model returns `[B, ..., C]`, such as `[B, H, W, C]`. `targets` of `explain`: class numbers, ints
    `[N]`, for the pixels that are predicted to be of this class at the inputs; or a dict `{"class": ints [N],
    "mask": [N, ...]}` with a mask or weights of the pixels, such as `[N, H, W]`. A network with one
    output needs no class. The mask is held along the path.

    Returns:
      An operator.

    Raises:
      ValueError: no targets; a mask that does not fit; while it explains, a class number that is not there,
        or a mask without pixels.

    >>> explainer = Explainer(lambda x: tf.stack([x, 3 * x], axis=-1), operator="segment")
    >>> targets = {"class": [1], "mask": [[True, True, False, False]]}
    >>> explainer.explain([[2.0, 4.0, 1.0, 1.0]], targets, progress=False).tolist()
    [[3.0, 6.0, 0.0, 0.0]]
    """

    def operator(model, inputs, targets):
        ys, given = _single("segment", model(inputs), 3), _named("class", targets, ("class", "mask"))
        classes, mask = given["class"], given["mask"]
        if classes is None and (ys.shape[-1] != 1 or mask is None):
            raise ValueError(
                f"Explainer: operator segment has no class for outputs of shape {ys.shape}, expected class "
                "numbers as targets, or {'class': numbers, 'mask': [N, H, W]}. Of one output, a mask will do."
            )
        classes = tf.zeros(tf.shape(ys)[:1], tf.int32) if classes is None else classes
        classes = _class_numbers(classes, tf.shape(ys)[-1])
        alone = [1] * (ys.shape.rank - 2)  # an axis for each of the pixels'
        if mask is None:
            mask = tf.equal(tf.argmax(ys, -1, output_type=tf.int32), tf.reshape(classes, [-1, *alone]))
        mask = _fitting("segment", "a mask", mask, ys[..., 0])
        size = sum_features(mask)
        here = tf.debugging.assert_positive(
            size, "Explainer: operator segment got a mask without pixels, or the class is predicted nowhere."
        )
        with tf.control_dependencies([here]):
            mask = mask / tf.reshape(size, [-1, *alone])
        columns = tf.one_hot(classes, tf.shape(ys)[-1], dtype=ys.dtype)
        return ys, mask[..., None] * tf.reshape(columns, [tf.shape(ys)[0], *alone, tf.shape(ys)[-1]])

    return _as_written(operator)


def regression(error: str = "absolute") -> Callable:
    """How far predictions are from measured values: what makes the error.

    The model returns `[B]` or `[B, D]`; `targets` of `explain` are the measured values, `[N]` or `[N, D]`.
    Attributions above 0 raise the error. (What raises the prediction itself needs no operator.)

    Args:
      error: `"absolute"` or `"squared"`, of which the mean over the outputs is explained.

    Returns:
      An operator.

    Raises:
      ValueError: another error; no targets, or values of another shape than the outputs.

    >>> explainer = Explainer(lambda x: tf.reduce_sum(x, 1), operator="regression")
    >>> explainer.explain([[1.0, 2.0]], [5.0], progress=False).round(4).tolist()  # 2 off, from 5
    [[-1.0, -2.0]]
    """
    measure = _measure("regression", error, ERRORS)

    def operator(model, inputs, targets):
        ys = _single("regression", model(inputs), 1)
        return measure(ys - _fitting("regression", "targets", targets, ys))

    return _as_written(operator)


def distance(metric: str = "euclidean", embedded: bool = False) -> Callable:
    """The distance of embeddings to references: what makes two inputs differ, or alike.

    The model returns embeddings `[B, D]`; `targets` of `explain` are the references, one for each row: inputs
    like those that are explained. Attributions above 0 set the row apart from its reference.

    Args:
      metric: `"euclidean"`, `"squared"` or `"cosine"` (1 minus the cosine of the angle).
      embedded: whether references are embeddings `[N, D]` already.

    Returns:
      An operator.

    Raises:
      ValueError: another metric; no targets, or references that do not fit.
      TypeError: `embedded` is neither True nor False.

    >>> explainer = Explainer(lambda x: 2 * x, operator=distance("squared"))
    >>> explainer.explain([[1.0, 2.0]], [[1.0, 0.0]], progress=False).round(4).tolist()  # 16, from 4
    [[-4.0, 16.0]]
    """
    measure = _measure("distance", metric, METRICS)
    if not isinstance(embedded, bool):
        raise TypeError(f"distance: embedded is {embedded!r}, expected True or False.")

    def operator(model, inputs, targets):
        ys = _single("distance", model(inputs), 2)
        references = _given("distance", targets, "references, inputs like those that are explained")
        if not embedded:
            references = _single("distance", model(_like(references, inputs)), 2)
        return measure(ys, _fitting("distance", "references", references, ys))

    return _as_written(operator)


def reconstruction(error: str = "squared") -> Callable:
    """The error of an autoencoder: which entries of the input it cannot rebuild, and what is to blame for it.

    The model returns its inputs again, `[B, ...]`; `targets` of `explain` are left out. The error depends on
    each entry twice, as what is to be rebuilt and as what the others are rebuilt from; attributions hold
    both.

    Args:
      error: `"squared"` or `"absolute"`, of which the mean over the entries is explained.

    Returns:
      An operator.

    Raises:
      ValueError: another error; targets; outputs of another shape than the inputs.

    >>> explainer = Explainer(lambda x: tf.stack([x[:, 0], x[:, 0]], 1), operator="reconstruction")
    >>> explainer.explain([[1.0, 3.0]], progress=False).round(4).tolist()  # (3 - 1)^2 / 2 = 2
    [[-1.0, 3.0]]
    """
    measure = _measure("reconstruction", error, ERRORS)

    def operator(model, inputs, targets):
        if targets is not None:
            raise ValueError("Explainer: operator reconstruction got targets, expected none: leave them out.")
        xs = _single("reconstruction", inputs, 2)
        ys = _single("reconstruction", model(inputs), 2)
        return measure(ys - _fitting("reconstruction", "the inputs", xs, ys))

    return _as_written(operator)


OPERATORS = {f.__name__: f for f in (box, segment, regression, distance, reconstruction)}
ERRORS = {"absolute": tf.abs, "squared": tf.square}


def _squared(ys, others):
    return sum_features(tf.square(ys - others))


def _cosine(ys, others):
    ys, others = (tf.reshape(t, [tf.shape(t)[0], -1]) for t in (ys, others))
    return 1 - tf.reduce_sum(tf.math.l2_normalize(ys, 1) * tf.math.l2_normalize(others, 1), 1)


METRICS = {"euclidean": lambda a, b: tf.sqrt(_squared(a, b)), "squared": _squared, "cosine": _cosine}


def as_operator(operator):
    """A function of tensors, or None: one that is ready-made by its name."""
    if isinstance(operator, str):
        if operator not in OPERATORS:
            raise ValueError(
                f"Explainer: operator is {operator!r}, {expected(operator, OPERATORS)}; or a function "
                "(model, inputs, targets)."
            )
        return OPERATORS[operator]()
    if operator is not None and not callable(operator):
        raise TypeError(
            f"Explainer: operator is a {type(operator).__name__}, expected a function (model, inputs, "
            "targets) that returns a scalar per row, or the name of one. Leave it out to explain the model's "
            "outputs."
        )
    # Of a tf.function its Python code, so that hidden layers are in the graph to be explained.
    return getattr(operator, "python_function", operator)


def with_weights(found):
    """What an operator returned, checked: outputs and their weights, or None where they are `[B]`."""
    ys, weights = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if weights is None:
        fits = tf.is_tensor(ys) and ys.shape.rank in (1, 2) and ys.shape[1:].num_elements() == 1
    else:
        fits = tf.is_tensor(ys) and tf.is_tensor(weights) and bool(ys.shape.rank)
        fits = fits and ys.shape.rank == weights.shape.rank and weights.shape.is_compatible_with(ys.shape)
    if not fits:
        raise ValueError(
            f"Explainer: the operator returned {describe(found)}, expected a scalar per row: a tensor of "
            "shape [B], as of tf.reduce_sum(scores, axis=1); or a pair of outputs and their weights, both "
            "[B, ...]."
        )
    return ys, None if weights is None else tf.cast(weights, ys.dtype)


def _as_written(operator):
    """Our own code stays as it is; the model is converted when it is called."""
    return tf.autograph.experimental.do_not_convert(operator)


def _measure(name, value, table):
    if not isinstance(value, str) or value not in table:
        what = "metric" if table is METRICS else "error"
        raise ValueError(f"{name}: {what} is {value!r}, {expected(value, table)}.")
    if table is METRICS:
        return METRICS[value]
    return functools.partial(_mean_of, ERRORS[value])


def _mean_of(function, differences):
    """Over all entries of a row, `[B]`."""
    return tf.reduce_mean(function(tf.reshape(differences, [tf.shape(differences)[0], -1])), 1)


def _single(name, value, rank):
    """The only tensor, of at least so many axes."""
    flat = tf.nest.flatten(value)
    if len(flat) != 1 or flat[0].shape.rank is None or flat[0].shape.rank < rank:
        raise ValueError(
            f"Explainer: operator {name} got {describe(value)}, expected one tensor of at least {rank} axes. "
            "Of several outputs, wrap the model in a function that returns one."
        )
    return flat[0]


def _given(name, targets, what):
    if targets is None:
        raise ValueError(f"Explainer: operator {name} has no targets, expected {what}, one for each row.")
    return targets


def _fitting(name, what, value, like):
    """A tensor in the shape and dtype of another one."""
    value = _given(name, value, f"{what} of shape {like.shape}")
    if tf.nest.is_nested(value):
        raise ValueError(
            f"Explainer: operator {name} got {describe(value)}, expected one array, {like.shape}."
        )
    sizes = [value.shape[1:].num_elements(), like.shape[1:].num_elements()]
    same = value.shape.rank == like.shape.rank and value.shape[1:].is_compatible_with(like.shape[1:])
    if not same and not (None not in sizes and sizes[0] == sizes[1] and _but_ones(value) == _but_ones(like)):
        raise ValueError(
            f"Explainer: operator {name} got {what} of shape {value.shape}, expected {like.shape}."
        )
    return tf.reshape(tf.cast(value, like.dtype), tf.shape(like))


def _but_ones(tensor):
    return [size for size in tensor.shape.as_list()[1:] if size != 1]


def _like(references, inputs):
    """References in the structure and the dtypes of the inputs."""
    pairs = list(zip(tf.nest.flatten(references), tf.nest.flatten(inputs)))
    try:
        tf.nest.assert_same_structure(references, inputs, check_types=False)
        fits = all(t.shape[1:].is_compatible_with(x.shape[1:]) for t, x in pairs)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"Explainer: operator distance got references {describe(references)}, expected inputs like those "
            f"that are explained, {describe(inputs)}. Embeddings: operator=distance(embedded=True)."
        )
    return tf.nest.pack_sequence_as(inputs, [tf.cast(t, x.dtype) for t, x in pairs])


def _named(first, targets, names):
    """`{name: tensor or None}` of targets that are a dict, or the first of them alone."""
    given = targets if isinstance(targets, dict) else {first: targets}
    if not set(given) <= set(names):
        raise ValueError(
            f"Explainer: targets is a dict with {sorted(given)}, expected some of {list(names)}."
        )
    return {name: given.get(name) for name in names}


def _detections(outputs):
    """Boxes `[B, A, 4]`, scores `[B, A, C]`, objectness `[B, A]` or None."""
    if isinstance(outputs, dict):
        scores = outputs.get("scores", outputs.get("classes"))
        found = [outputs.get("boxes"), scores, outputs.get("objectness")]
    elif isinstance(outputs, (list, tuple)):
        found = [*outputs, None] if len(outputs) == 2 else list(outputs)
    elif outputs.shape.rank == 3 and (outputs.shape[2] or 0) > SIDES + 1:
        found = [outputs[..., :SIDES], outputs[..., SIDES + 1 :], outputs[..., SIDES]]
    else:
        found = []
    if len(found) == 3 and found[0] is not None and found[1] is not None:
        boxes, scores, objectness = found
        scores = scores[..., None] if scores.shape.rank == 2 else scores
        if objectness is not None and objectness.shape.rank == 3:
            objectness = objectness[..., 0]
        if boxes.shape.rank == scores.shape.rank == 3 and boxes.shape[2] == SIDES:
            return boxes, scores, objectness
    raise ValueError(
        f"Explainer: operator box got outputs {describe(outputs)}, expected {{'boxes': [B, A, 4], 'scores': "
        "[B, A, C], 'objectness': [B, A] or left out}, a tuple of these, or one tensor [B, A, 4 + 1 + C]. "
        "Wrap the model in a function that returns them."
    )


def _box_number(given, boxes, scores, objectness, form):
    """`[B]`, int32: which of the boxes is meant, at the inputs."""
    count = tf.shape(boxes)[1]
    if given is None:
        best = tf.reduce_max(scores, 2)
        best = best if objectness is None else best * tf.cast(objectness, best.dtype)
        return tf.argmax(best, 1, output_type=tf.int32)
    if given.dtype.is_integer and given.shape.rank == 1:
        return _below("the number of a box", given, count)
    if given.shape.rank != 2 or given.shape[1] != SIDES:
        raise ValueError(
            f"Explainer: targets of operator box have shape {given.shape} and dtype {given.dtype.name}, "
            "expected numbers of boxes (ints, [N]) or boxes [N, 4]."
        )
    shares = _overlaps(boxes, tf.cast(given, boxes.dtype)[:, None], form)
    touched = tf.debugging.assert_positive(
        tf.reduce_max(shares, 1),
        "Explainer: a box in targets overlaps with none of the model's, expected one in their coordinates.",
    )
    with tf.control_dependencies([touched]):
        return tf.argmax(shares, 1, output_type=tf.int32)


def _overlaps(boxes, others, form):
    """Intersection over union, `[B, A]`."""
    low, high, sizes = [], [], []
    for each in (boxes, others):
        first, second = each[..., :2], each[..., 2:]
        if form == "center":
            first, second = first - second / 2, first + second / 2
        low.append(first)
        high.append(second)
        sizes.append(tf.reduce_prod(second - first, -1))
    common = tf.reduce_prod(tf.nn.relu(tf.minimum(*high) - tf.maximum(*low)), -1)
    return tf.math.divide_no_nan(common, sizes[0] + sizes[1] - common)


def _class_of(given, scores):
    """`[B]`, int32: as given, or the largest of the scores `[B, C]`."""
    if given is None:
        return tf.argmax(scores, 1, output_type=tf.int32)
    return _class_numbers(given, tf.shape(scores)[1])


def _class_numbers(given, count):
    if not given.dtype.is_integer or given.shape.rank != 1:
        raise ValueError(
            f"Explainer: the classes in targets have shape {given.shape} and dtype {given.dtype.name}, "
            "expected class numbers, ints [N]."
        )
    return _below("a class number", given, count)


def _below(what, numbers, count):
    """Numbers that are there, checked when it runs."""
    message = f"Explainer: {what} in targets is not there, expected 0 to one less than their count."
    checks = [tf.debugging.assert_non_negative(numbers, message)]
    numbers = tf.cast(numbers, tf.int32)
    checks.append(tf.debugging.assert_less(numbers, count, message))
    with tf.control_dependencies(checks):
        return tf.identity(numbers)

"""What goes through layers and heads of a language model, and how they are found."""

import numpy as np
import pytest
import tensorflow as tf
from language_models import bert, gpt2, on_embeddings

from igtf.language import TextExplainer
from igtf.language.network import at_positions, lookups


@pytest.fixture(scope="module")
def classifier():
    return bert("float64")


def by_steps(model, layer, inputs, starts, score, steps=2000):
    """Conductance of what a layer returns, `[T, units]`: midpoints, and finite changes along the path."""
    table = model.backbone.token_embedding.embeddings.numpy()
    ends, begins = table[inputs["token_ids"]], table[starts["token_ids"]]
    at = (np.arange(steps + 1) / steps)[:, None, None]
    repeated = {name: np.repeat(value[None], steps + 1, 0) for name, value in inputs.items()}
    points, held = tf.constant(begins + at * (ends - begins)), {}
    call = layer.call

    def kept(*arguments, **options):
        held["hidden"] = call(*arguments, **options) + tf.zeros([], tf.float64)
        tape.watch(held["hidden"])
        return held["hidden"]

    layer.__dict__["call"] = kept
    try:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(score(on_embeddings(model, repeated, [points])))
        grads = tape.gradient(total, held["hidden"]).numpy()
    finally:
        del layer.__dict__["call"]
    hidden = held["hidden"].numpy()
    return ((grads[1:] + grads[:-1]) / 2 * (hidden[1:] - hidden[:-1])).sum(0)


def test_conductance_of_a_layer_is_that_along_the_path_of_the_words(classifier):
    inputs = {k: np.asarray(v)[0] for k, v in classifier.preprocessor(["the cat sat"]).items()}
    ids = inputs["token_ids"]
    starts = {"token_ids": np.where(ids >= 4, 0, ids)}
    explainer = TextExplainer(classifier, num_steps=100)
    names = ["transformer_layer_0", "transformer_layer_1"]
    found = explainer.conductance("the cat sat", names, 1, progress=False)
    assert found.layers == names and found.tokens == ["the", "cat", "sat"]
    for name, scores in zip(names, found.scores):
        layer = classifier.backbone.get_layer(name)
        wanted = by_steps(classifier, layer, inputs, starts, lambda y: y[:, 1]).sum(-1)
        assert scores == pytest.approx(wanted[ids >= 4], rel=1e-4, abs=1e-6)
    # All that the output depends on goes through the last layer.
    special = explainer.conductance("the cat sat", names[1], 1, groups="tokens", progress=False)
    assert special.output - special.base_value == pytest.approx(wanted.sum(), rel=1e-5)


@pytest.mark.slow
def test_heads_of_an_attention_share_what_goes_through_it(classifier):
    explainer = TextExplainer(classifier, num_steps=100)
    found = explainer.conductance("the cat sat", "transformer_layer_1", 1, heads=True, progress=False)
    attention = next(
        layer
        for layer in classifier.backbone.get_layer("transformer_layer_1")._flatten_layers()
        if "MultiHead" in type(layer).__name__
    )
    whole = explainer.conductance("the cat sat", attention, 1, groups="tokens", progress=False)
    inputs = {k: np.asarray(v)[0] for k, v in classifier.preprocessor(["the cat sat"]).items()}
    ids = inputs["token_ids"]
    starts = {"token_ids": np.where(ids >= 4, 0, ids)}
    wanted = by_steps(classifier, attention, inputs, starts, lambda y: y[:, 1])
    assert found.tokens is None and found.scores.shape == (1, 2)
    assert found.scores.sum() == pytest.approx(wanted.sum(), rel=1e-4)
    assert whole.scores[0] == pytest.approx(wanted.sum(-1)[ids >= 4], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_continuation_goes_through_the_layers_of_a_language_model():
    explainer = TextExplainer(gpt2("float64"), num_steps=60)
    found = explainer.conductance("the cat", ["transformer_layer_0"], continuation=" sat", progress=False)
    assert found.scores.shape == (1, len(found.tokens))
    heads = explainer.conductance(
        "the cat", ["transformer_layer_0"], continuation=" sat", heads=True, progress=False
    )
    assert heads.scores.shape == (1, 2) and heads.output == pytest.approx(found.output)
    assert [t.get_text() for t in heads.plot().axes[0].get_xticklabels()] == ["head 0", "head 1"]


@pytest.mark.parametrize(
    "layers, heads, message",
    [
        ("transformer_layer_9", False, "layer is 'transformer_layer_9', .*transformer_layer_"),
        ("pooled_dense", True, "layer 'pooled_dense' holds no attention"),
        ("pooled_dense", False, "expected units"),
    ],
)
def test_other_layers_are_refused(classifier, layers, heads, message):
    with pytest.raises(ValueError, match=message):
        TextExplainer(classifier).conductance("the cat", layers, 0, heads=heads, progress=False)


def traced(function, length=5):
    """What a function of ids returns in a graph, with the ids."""
    with tf.Graph().as_default():
        ids = tf.compat.v1.placeholder(tf.int32, [None, length])
        return function(ids), ids


def test_what_is_computed_from_ids_otherwise_is_no_embedding():
    def model(ids):
        there = tf.cast(tf.not_equal(ids, 0), tf.int32)
        places = tf.gather(tf.ones([9, 4]), tf.cumsum(there, axis=1))  # numbered without padding
        words = tf.gather(tf.ones([7, 4]), tf.where(ids < 0, ids + 7, ids))
        return words * places * tf.cast(there, tf.float32)[..., None], words

    (ys, words), ids = traced(model)
    assert [t.name for t in lookups(ys, ids)] == [words.name]


def test_logits_are_computed_at_the_chosen_places_alone():
    def model(ids):
        words = tf.gather(tf.ones([7, 4]), ids)
        hidden = tf.nn.softmax(words)
        chosen = tf.compat.v1.placeholder(tf.int32, [None, 2])
        logits = tf.tanh(tf.tensordot(hidden, tf.ones([4, 99]), 1)) * 3 + tf.ones([99])
        return at_positions(logits, [ids], chosen)

    found, _ = traced(model)
    assert found.shape.as_list() == [None, 2, 99]
    wide = [op for op in found.graph.get_operations() if op.type == "MatMul"]
    assert len(wide) == 2  # that of the model, which nothing fetches, and the one at the places
    with tf.compat.v1.Session(graph=found.graph) as session:
        ids, chosen = found.graph.get_operations()[0].outputs[0], "Placeholder_1:0"
        values = session.run(found, {ids: np.ones([3, 5]), chosen: np.zeros([3, 2], int)})
    assert values.shape == (3, 2, 99) and values == pytest.approx(3 * np.tanh(1) + 1)

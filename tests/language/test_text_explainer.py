"""Scores of words of whole texts: by brute force, batches, padding, targets, methods, kinds of models."""

import numpy as np
import pytest
import tensorflow as tf
from language_models import Letters, bert, brute_force, keras_hub

from igtf.language import TextExplainer

TEXTS = ["the cat sat", "it was a good movie!", "running dogs ran in"]
DRAW = np.random.RandomState(0)
TABLE = DRAW.normal(size=[27, 4]).astype(np.float32)
KERNEL = DRAW.normal(size=[4, 3]).astype(np.float32)


def classify(ids):
    """Scores `[B, 3]` of a model that is curved and mixes words."""
    words = tf.gather(tf.constant(TABLE), ids)
    return tf.tanh(tf.reduce_mean(words, 1) + words[:, 0]) @ KERNEL + tf.reduce_sum(words**2, [1, 2])[:, None]


@pytest.fixture(scope="module")
def letters():
    return TextExplainer(classify, Letters(), labels=["bad", "so", "good"])


@pytest.fixture(scope="module")
def classifier():
    return bert("float64")


@pytest.fixture(scope="module")
def explainer(classifier):
    return TextExplainer(classifier, num_steps=100, batch_size=2)


class TestKerasHub:
    def test_scores_are_those_of_brute_force(self, classifier, explainer):
        found = explainer.explain(TEXTS, targets=[0, 1, 2], groups="tokens", progress=False)
        for text, target, one in zip(TEXTS, range(3), found):
            inputs = {k: np.asarray(v)[0] for k, v in classifier.preprocessor([text]).items()}
            ids = inputs["token_ids"]
            moved = ids >= 4  # of the special tokens, [UNK] alone stands for text
            starts = {"token_ids": np.where(moved, 0, ids)}
            wanted, ends = brute_force(classifier, inputs, starts, lambda y, c=target: y[:, c])
            assert one.scores == pytest.approx(wanted[0][moved], rel=1e-5, abs=1e-6)
            assert [one.base_value, one.output] == pytest.approx(ends[:, 0])
            assert abs(one.delta) < 1e-5
            # Nothing goes to padding, the mask of which stays.
            assert wanted[0][ids == 0] == pytest.approx(0, abs=1e-9)

    def test_words_are_sums_of_their_tokens(self, explainer):
        words, tokens = (explainer.explain(TEXTS[2], 0, by, progress=False) for by in ("words", "tokens"))
        assert words.tokens == ["running", "dogs", "ran", "in"]
        assert tokens.tokens == ["run", "ning", "dog", "s", "ran", "in"]
        sums = np.add.reduceat(tokens.scores, [0, 2, 4, 5])
        assert words.scores == pytest.approx(sums)

    def test_batches_of_unequal_length_are_what_single_texts_are(self, explainer):
        several = explainer.explain(TEXTS, 1, progress=False)
        for text, one in zip(TEXTS, several):
            alone = explainer.explain(text, 1, progress=False)
            assert one.tokens == alone.tokens and one.scores == pytest.approx(alone.scores, abs=1e-9)

    def test_a_length_is_traced_once(self, explainer):
        explainer.explain(TEXTS, progress=False)
        before = explainer.traces
        explainer.explain(["a good dog", "the mat was in it"], 2, "sentences", progress=False)
        assert explainer.traces == before

    def test_special_tokens_are_shown_when_they_are_asked_for(self, classifier):
        explainer = TextExplainer(classifier, special_tokens=True)
        found = explainer.explain(TEXTS[0], 0, progress=False)
        assert found.tokens == ["[CLS]", "the", "cat", "sat", "[SEP]"]
        assert abs(found.scores[[0, 4]]).min() > 1e-6 and abs(found.delta) < 1e-5

    def test_pairs_of_texts_are_read_as_one(self, explainer):
        found = explainer.explain([("a good cat", "the dog ran")], 0, progress=False)[0]
        assert found.tokens == ["a", "good", "cat", "the", "dog", "ran"] and abs(found.delta) < 1e-5

    def test_a_text_that_is_cut_is_told_of(self, explainer):
        with pytest.warns(UserWarning, match="cuts the text 'the the the.* to 10 of its 14 tokens"):
            found = explainer.explain("the " * 14, 0, progress=False)
        assert found.tokens == ["the"] * 10

    def test_scores_that_do_not_add_up_are_told_of(self, classifier):
        with pytest.warns(UserWarning, match="1 of 1 rows of scores .*num_steps=4, or with tol") as told:
            found = TextExplainer(classifier, num_steps=1).explain(TEXTS[0], 0, progress=False)
        assert abs(found.delta) > 0.05 * abs(found.output - found.base_value)
        assert told[0].filename == __file__

    @pytest.mark.parametrize(
        "name", ["mean", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mask", "good", 7))]
    )
    def test_baselines_are_tokens_or_the_mean_of_all(self, classifier, name):
        found = TextExplainer(classifier, baselines=name).explain(TEXTS[0], 0, progress=False)
        table = classifier.backbone.token_embedding.embeddings.numpy()
        inputs = {k: np.asarray(v) for k, v in classifier.preprocessor([TEXTS[0]]).items()}
        vocabulary = classifier.preprocessor.tokenizer.get_vocabulary()
        ids = inputs["token_ids"][0]
        wanted = (
            table.mean(0)
            if name == "mean"
            else table[{"mask": 4, "good": vocabulary.index("good")}.get(name, 7)]
        )
        embeddings = np.where((ids >= 4)[:, None], wanted, table[ids])
        layer = classifier.backbone.token_embedding
        layer.__dict__["call"] = lambda ids: tf.constant(embeddings[None])
        try:
            base = classifier(inputs).numpy()[0, 0]
        finally:
            del layer.__dict__["call"]
        assert found.base_value == pytest.approx(base) and abs(found.delta) < 1e-5

    @pytest.mark.slow
    def test_in_mixed_precision_compiled_and_saved(self, tmp_path):
        keras = keras_hub() and tf.keras
        plain = bert()
        wanted = TextExplainer(plain).explain(TEXTS[0], 0, progress=False)
        compiled = TextExplainer(plain, jit_compile=True).explain(TEXTS[0], 0, progress=False)
        assert compiled.scores == pytest.approx(wanted.scores, abs=1e-5)
        plain.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert TextExplainer(loaded).explain(TEXTS[0], 0, progress=False).scores == pytest.approx(
            wanted.scores, abs=1e-5
        )
        mixed = bert("mixed_float16")
        for ours, theirs in zip(mixed.weights, plain.weights):
            ours.assign(theirs)
        half = TextExplainer(mixed).explain(TEXTS[0], 0, progress=False)
        assert half.scores == pytest.approx(wanted.scores, abs=0.02 * float(abs(wanted.scores).max()))

    @pytest.mark.slow
    def test_a_signature_is_explained_with_its_preprocessor(self, tmp_path):
        model = bert()
        specs = {name: tf.TensorSpec([None, None], tf.int32, name) for name in model.input}
        serve = tf.function(lambda inputs: {"scores": model(inputs, training=False)}, input_signature=[specs])
        tf.saved_model.save(model, str(tmp_path), signatures=serve)
        loaded = tf.saved_model.load(str(tmp_path))
        served = loaded.signatures["serving_default"]
        found = TextExplainer(served, preprocessor=model.preprocessor).explain(TEXTS[0], 0, progress=False)
        wanted = TextExplainer(model).explain(TEXTS[0], 0, progress=False)
        assert found.scores == pytest.approx(wanted.scores, abs=1e-5)


class TestTargets:
    def test_labels_numbers_weights_and_what_is_largest(self, letters):
        scores = classify(np.array([Letters().encode("good")])).numpy()[0]
        by_label = letters.explain("good", "bad", "tokens", progress=False)
        assert (by_label.target, by_label.label) == (0, "bad")
        assert by_label.output == pytest.approx(scores[0], rel=1e-5)
        largest = letters.explain("good", progress=False)
        assert largest.target == scores.argmax() and largest.output == pytest.approx(scores.max(), rel=1e-5)
        both = letters.explain(["good", "good"], ["bad", 2], "tokens", progress=False)
        weighed = letters.explain(["good"], [[2.0, 0.0, -1.0]], "tokens", progress=False)[0]
        assert weighed.target is None
        assert weighed.scores == pytest.approx(2 * both[0].scores - both[1].scores, rel=1e-4, abs=1e-5)

    def test_a_single_output_needs_none(self):
        model = lambda ids: tf.reduce_sum(tf.gather(tf.constant(TABLE), ids) ** 2, [1, 2])  # noqa: E731
        found = TextExplainer(model, Letters(), baselines="a").explain("bat", groups="tokens", progress=False)
        sums = (TABLE**2).sum(1)
        assert found.scores == pytest.approx(
            ((TABLE[[1, 0, 19]] - TABLE[0]) * (TABLE[[1, 0, 19]] + TABLE[0])).sum(1), abs=1e-5
        )
        assert found.delta == pytest.approx(0, abs=1e-4) and found.output == pytest.approx(
            sums[[1, 0, 19]].sum(), rel=1e-5
        )

    @pytest.mark.parametrize(
        "targets, message",
        [
            (3, "targets is 3, expected the number of a class from 0 to 2, its label"),
            ("god", "targets is 'god', .*good.* or the number of a class"),
            ([0, 1], "targets holds 2 classes for 1 texts"),
            (np.ones([2, 3]), r"shape \(2, 3\), expected weights \[1, C\]"),
        ],
    )
    def test_others_are_refused(self, letters, targets, message):
        with pytest.raises(ValueError, match=message):
            letters.explain("a", targets, progress=False)

    def test_a_class_that_is_not_there_is_refused(self):
        with pytest.raises(
            ValueError, match="the class 3, expected numbers from 0 to 2: the model has 3 outputs"
        ):
            TextExplainer(classify, Letters()).explain("a", 3, progress=False)


class TestMethods:
    def test_complete_ones_add_up(self, letters):
        for method in ("shapley_value_sampling", "kernel_shap", "deeplift", "guided_integrated_gradients"):
            found = TextExplainer(classify, Letters(), method=method).explain("ab ad", 0, progress=False)
            assert found.tokens == ["ab", "ad"]
            assert found.scores.sum() == pytest.approx(found.output - found.base_value, rel=1e-3), method

    def test_occlusion_switches_whole_words(self):
        explainer = TextExplainer(classify, Letters(), method="occlusion")
        found = explainer.explain("abc de", 1, progress=False)
        ids = np.array(Letters().encode("abc de"))
        for span, score in zip([slice(0, 3), slice(3, 6)], found.scores):
            covered = ids.copy()
            covered[span] = 0
            both = classify(np.stack([ids, covered])).numpy()[:, 1]
            assert score == pytest.approx(both[0] - both[1], rel=1e-4, abs=1e-5)

    def test_a_word_at_a_time_others_being_there(self):
        explainer = TextExplainer(classify, Letters(), method="sequential_integrated_gradients", num_steps=20)
        found = explainer.explain("fad", 1, "tokens", progress=False)
        # The last word acts through the mean and a square, the others being fixed.
        ids = np.array([[5, 0, 3], [5, 0, 0]])
        both = classify(ids).numpy()[:, 1]
        assert found.scores[2] == pytest.approx(both[0] - both[1], rel=1e-3) and found.delta is None

    def test_expected_gradients_draw_from_texts(self):
        linear = lambda ids: tf.reduce_sum(tf.gather(tf.constant(TABLE), ids), [1, 2])  # noqa: E731
        options = dict(method="expected_gradients", num_samples=400, seed=1)
        explainer = TextExplainer(linear, Letters(), baselines=["aa", "zz"], **options)
        found = explainer.explain("bc", groups="tokens", progress=False)
        sums = TABLE.sum(1)
        wanted = sums[[1, 2]] - sums[[0, 25]].mean()
        assert found.scores == pytest.approx(wanted, abs=0.15 * float(abs(sums[0] - sums[25])))
        assert found.base_value is None and found.delta is None

    def test_the_error_is_estimated(self, letters):
        found = letters.explain("good", 0, return_error=True, progress=False)
        assert 0 <= found.error < 1e-3

    @pytest.mark.parametrize(
        "method", ["grad_cam", "layer_conductance", "blur_integrated_gradients", "nothing"]
    )
    def test_others_are_refused(self, method):
        with pytest.raises(ValueError, match=f"method is '{method}'"):
            TextExplainer(classify, Letters(), method=method)


class TestModels:
    def test_a_mask_is_given_to_what_takes_one_and_padding_gets_nothing(self):
        def model(ids, mask):
            there = tf.cast(mask, tf.float32)[..., None]
            words = tf.gather(tf.constant(TABLE), ids) * there
            return tf.tanh(tf.reduce_sum(words, 1) / tf.reduce_sum(there, 1)) @ KERNEL

        explainer = TextExplainer(model, Letters())
        several = explainer.explain(["ab", "abcde", "a"], 0, "tokens", progress=False)
        assert explainer.traces == 1
        for text, one in zip(["ab", "abcde", "a"], several):
            alone = TextExplainer(lambda ids: model(ids, tf.ones_like(ids)), Letters())
            assert one.scores == pytest.approx(
                alone.explain(text, 0, "tokens", progress=False).scores, abs=1e-6
            )

    def test_a_keras_model_on_ids(self):
        layers = tf.keras.layers
        ids = tf.keras.Input((None,), dtype="int32")
        words = layers.Embedding(27, 4)(ids)
        model = tf.keras.Model(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(words)))
        found = TextExplainer(model, Letters()).explain("hello", 0, "tokens", progress=False)
        table, kernel = model.get_weights()[:2]
        wanted = (table[Letters().encode("hello")] - table[0]) @ kernel[:, 0] / 5
        assert found.scores == pytest.approx(wanted, abs=1e-6)

    @pytest.mark.parametrize(
        "model, error, message",
        [
            (lambda ids: tf.cast(ids, tf.float32), ValueError, "no table is looked up with the ids"),
            (
                lambda ids: tf.gather(tf.constant(TABLE), ids),
                ValueError,
                r"expected scores \[B\] or \[B, C\]",
            ),
            (lambda ids: [classify(ids)] * 2, ValueError, "several outputs .2 of them., expected one"),
            (3, TypeError, "model is a int, expected"),
        ],
    )
    def test_others_are_refused(self, model, error, message):
        with pytest.raises(error, match=message):
            TextExplainer(model, Letters()).explain("a", progress=False)

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(tokenizer=None), ValueError, "tokenizer is None and the model brings no preprocessor"),
            (dict(baselines="mask"), ValueError, "'mask' and the tokenizer has no mask_token_id"),
            (dict(baselines="ab"), ValueError, "baselines is 'ab', which the tokenizer makes 2 tokens of"),
            (dict(batch_size=0), ValueError, "batch_size is 0, expected a positive int"),
            (dict(steps=3), ValueError, "'steps', expected"),
            (dict(method="expected_gradients", num_samples=2), ValueError, "expected a list of texts"),
        ],
    )
    def test_other_arguments_are_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            TextExplainer(classify, **{"tokenizer": Letters(), **arguments})

    @pytest.mark.parametrize("texts, message", [(3, "texts is 3"), ([], "texts is"), ([3], "texts is")])
    def test_what_is_no_text_is_refused(self, letters, texts, message):
        with pytest.raises(TypeError, match=message):
            letters.explain(texts, progress=False)


def test_a_text_shows_itself(letters):
    found = letters.explain("good ab", "good", progress=False)
    assert "good," in found.plot() and found._repr_html_().count("<span title=") == 2
    assert found.plot("figure").axes
    assert found.largest(1)[0][0] == found.tokens[abs(found.scores).argmax()]

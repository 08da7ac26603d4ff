"""The matrix of a continuation: against brute force, one call per token, other methods; generation."""

import numpy as np
import pytest
import tensorflow as tf
from language_models import Letters, brute_force, gemma, gpt2, keras_hub, t5

from igtf.language import TextExplainer

DRAW = np.random.RandomState(1)
TABLE = DRAW.normal(size=[27, 6]).astype(np.float32)
OUT = DRAW.normal(size=[6, 27]).astype(np.float32)


def language(ids):
    """Logits `[B, T, 27]` of a model that reads from left to right, of tokens so far and of their order."""
    words = tf.gather(tf.constant(TABLE), ids)
    order = tf.range(1, tf.shape(ids)[1] + 1)
    places = tf.cast(order, tf.float32)[:, None]
    so_far = tf.cumsum(words * tf.tanh(places), axis=1) / places
    return tf.tanh(so_far * words + so_far) @ OUT


@pytest.fixture(scope="module")
def letters():
    return TextExplainer(language, Letters())


def log_probs(logits, places, ids):
    chosen = tf.nn.log_softmax(tf.gather(logits, places, axis=1))
    return tf.gather(chosen, tf.repeat(tf.constant(ids)[None], chosen.shape[0], 0), batch_dims=2)


@pytest.fixture(scope="module", params=["gpt2", pytest.param("gemma", marks=pytest.mark.slow)])
def causal(request):
    model = {"gpt2": gpt2, "gemma": gemma}[request.param]("float64")
    return model, TextExplainer(model, num_steps=150)


class TestCausal:
    PROMPT, ANSWER = "the cat sat", " the dog"

    def read(self, model):
        tokenizer = model.preprocessor.tokenizer
        prompt = model.preprocessor.generate_preprocess([self.PROMPT], sequence_length=24)
        before = np.asarray(prompt["token_ids"])[0][np.asarray(prompt["padding_mask"])[0].astype(bool)]
        together = np.asarray(tokenizer(self.PROMPT + self.ANSWER))
        answer = together[len(np.asarray(tokenizer(self.PROMPT))) :]
        return before, answer

    def test_the_matrix_is_that_of_brute_force(self, causal):
        model, explainer = causal
        before, answer = self.read(model)
        found = explainer.explain_generation(self.PROMPT, self.ANSWER, progress=False)
        ids = np.concatenate([before, answer[:-1]])
        special = model.preprocessor.tokenizer.special_token_ids
        moved = ~np.isin(ids, special)
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
        places = len(before) - 1 + np.arange(len(answer))
        starts = {"token_ids": np.where(moved, model.preprocessor.tokenizer.pad_token_id, ids)}
        wanted, ends = brute_force(model, inputs, starts, lambda y: log_probs(y, places, answer))
        assert found.scores.shape == (len(answer), moved.sum() + 1)
        assert found.scores[:, :-1] == pytest.approx(wanted[:, moved], rel=1e-5, abs=1e-6)
        assert np.stack([found.base_values, found.outputs]) == pytest.approx(ends)
        assert abs(found.deltas).max() < 1e-5

    def test_nothing_is_due_to_what_comes_later(self, causal):
        found = causal[1].explain_generation(self.PROMPT, self.ANSWER, progress=False)
        later = found.scores[:, len(found.prompt) :]
        assert not np.triu(later).any() and np.tril(later, -1).any()

    def test_words_are_sums_over_rows_and_columns(self, causal):
        _, explainer = causal
        tokens = explainer.explain_generation(self.PROMPT, self.ANSWER, progress=False)
        words = explainer.explain_generation(self.PROMPT, self.ANSWER, groups="words", progress=False)
        assert words.prompt == ["the", "cat", "sat"] and words.continuation == ["the", "dog"]
        assert words.scores.sum() == pytest.approx(tokens.scores.sum())
        assert words.outputs.sum() == pytest.approx(tokens.outputs.sum())
        assert abs(words.deltas).max() < 1e-5

    @pytest.mark.slow
    def test_what_a_model_generates_is_explained(self, causal):
        model, explainer = causal
        model.compile(sampler="greedy")
        found = explainer.explain_generation(self.PROMPT, max_new_tokens=3, progress=False)
        assert len(found.continuation) in (1, 2, 3)
        # The likeliest token each time, which by ids is what is generated.
        before, _ = self.read(model)
        logits = model({"token_ids": before[None], "padding_mask": np.ones_like(before[None])}).numpy()
        best = tf.nn.log_softmax(logits[0, -1]).numpy().max()
        assert found.outputs[0] == pytest.approx(best)


class TestSequenceToSequence:
    @pytest.mark.slow
    def test_the_matrix_is_that_of_brute_force(self):
        model = t5("float64")
        explainer = TextExplainer(model, num_steps=100)
        found = explainer.explain_generation("the cat sat", "a dog", progress=False)
        tokenizer = model.preprocessor.tokenizer
        encoder = np.asarray([*np.asarray(tokenizer("the cat sat")), tokenizer.end_token_id])
        answer = np.asarray(tokenizer("a dog"))
        decoder = np.concatenate([[tokenizer.pad_token_id], answer[:-1]])
        inputs = {"encoder_token_ids": encoder, "decoder_token_ids": decoder}
        inputs |= {
            "encoder_padding_mask": np.ones_like(encoder),
            "decoder_padding_mask": np.ones_like(decoder),
        }
        starts = {"encoder_token_ids": np.where(encoder == tokenizer.end_token_id, encoder, 0)}
        starts["decoder_token_ids"] = np.zeros_like(decoder)
        places = np.arange(len(answer))
        wanted, ends = brute_force(model, inputs, starts, lambda y: log_probs(y, places, answer), steps=4000)
        shown = np.concatenate([encoder != tokenizer.end_token_id, np.arange(len(decoder)) > 0])
        assert found.scores[:, :-1] == pytest.approx(wanted[:, shown], abs=2e-3 * abs(wanted).max())
        assert abs(found.deltas).max() < 1e-5
        assert np.stack([found.base_values, found.outputs]) == pytest.approx(ends)


class TestTargets:
    def test_a_row_is_what_one_token_alone_gets(self, letters):
        every = letters.explain_generation("hello w", "orld", progress=False)
        for count in range(1, 5):
            alone = letters.explain_generation(
                "hello w" + "orld"[: count - 1], "orld"[count - 1], progress=False
            )
            assert alone.scores[0, :-1] == pytest.approx(
                every.scores[count - 1, : 6 + count], rel=1e-4, abs=1e-5
            )

    def test_the_end_of_the_network_is_computed_for_the_chosen_places_alone(self, letters):
        # The same numbers where that is impossible, as another dense layer mixes the places.
        mixed = lambda ids: tf.einsum("btv,ts->bsv", language(ids), tf.eye(tf.shape(ids)[1]))  # noqa: E731
        ours = letters.explain_generation("abc", "de", progress=False)
        theirs = TextExplainer(mixed, Letters()).explain_generation("abc", "de", progress=False)
        assert theirs.scores == pytest.approx(ours.scores, rel=1e-4, abs=1e-5)
        assert theirs.outputs == pytest.approx(ours.outputs, rel=1e-5)

    def test_log_probabilities_logits_and_contrasts(self, letters):
        ids = np.array([Letters().encode("abcd")])
        logits = language(ids).numpy()[0, 3]
        one = {t: letters.explain_generation("abcd", "e", t, progress=False) for t in ("log_prob", "logit")}
        assert one["logit"].outputs[0] == pytest.approx(logits[4], rel=1e-5)
        assert one["log_prob"].outputs[0] == pytest.approx(tf.nn.log_softmax(logits)[4].numpy(), rel=1e-5)
        rival = letters.explain_generation("abcd", "f", "logit", progress=False)
        contrast = letters.explain_generation("abcd", "e", contrast="f", progress=False)
        assert contrast.target == "contrast" and contrast.rivals == ["f"]
        assert contrast.scores == pytest.approx(one["logit"].scores - rival.scores, rel=1e-3, abs=1e-4)
        likeliest = letters.explain_generation("abcd", "e", "contrast", progress=False)
        second = np.argsort(np.where(np.arange(27) == 4, -np.inf, logits))[-1]
        assert likeliest.rivals == [chr(97 + second)]

    def test_rows_that_do_not_add_up_are_told_of(self):
        with pytest.warns(UserWarning, match="explain_generation: . of 2 rows of scores .* worst those of"):
            found = TextExplainer(language, Letters(), num_steps=1).explain_generation(
                "abc", "de", progress=False
            )
        assert abs(found.deltas).max() > 0.05 * abs(found.outputs - found.base_values).min()

    def test_a_rival_for_each_token(self, letters):
        found = letters.explain_generation("ab", "cd", contrast=["x", 24], progress=False)
        logits = language(np.array([Letters().encode("abc")])).numpy()[0, 1:]
        assert found.outputs == pytest.approx(
            [logits[0, 2] - logits[0, 23], logits[1, 3] - logits[1, 24]], rel=1e-4
        )
        assert found.rivals == ["x", "y"]

    def test_the_likeliest_tokens_are_generated(self, letters):
        found = letters.explain_generation("ab", max_new_tokens=4, progress=False)
        ids = Letters().encode("ab")
        for token in found.continuation:
            assert token == Letters().decode([language(np.array([ids])).numpy()[0, -1].argmax()]).replace(
                " ", "\u2423"
            )
            ids.append(int(language(np.array([ids])).numpy()[0, -1].argmax()))
        assert len(found.continuation) == 4

    def test_a_mask_lets_texts_of_several_lengths_share_a_trace(self):
        explainer = TextExplainer(lambda ids, mask: language(ids), Letters())
        plain = TextExplainer(language, Letters())
        for prompt in ("abc", "abcde"):
            padded = explainer.explain_generation(prompt, "xy", progress=False)
            wanted = plain.explain_generation(prompt, "xy", progress=False)
            assert padded.scores == pytest.approx(wanted.scores, rel=1e-4, abs=1e-5)
        assert explainer.traces == 1 and plain.traces == 2

    def test_parts_of_a_long_continuation_are_the_whole(self, letters, monkeypatch):
        whole = letters.explain_generation("ab", "cdefg", progress=False)
        monkeypatch.setattr("igtf.language.text_explainer.AT_ONCE", 2)
        parts = letters.explain_generation("ab", "cdefg", progress=False)
        assert parts.scores == pytest.approx(whole.scores, rel=1e-4, abs=1e-5)

    def test_other_methods_explain_token_after_token(self):
        explainer = TextExplainer(language, Letters(), method="occlusion")
        found = explainer.explain_generation("ab cd", "ef", "logit", groups="words", progress=False)
        ids = np.array(Letters().encode("ab cde"))
        for column, span in enumerate([slice(0, 2), slice(2, 5)]):
            covered = ids.copy()
            covered[span] = 0
            both = language(np.stack([ids, covered])).numpy()
            wanted = sum(both[0, 4 + n, 4 + n] - both[1, 4 + n, 4 + n] for n in range(2))
            assert found.scores[0, column] == pytest.approx(wanted, rel=1e-3, abs=1e-4)

    def test_errors_are_estimated(self, letters):
        found = letters.explain_generation("ab", "cd", return_error=True, progress=False)
        assert found.errors.shape == (2,) and (found.errors < 1e-2).all()

    def test_the_cost_is_that_of_all_steps_and_tokens(self, letters):
        cost = letters.estimate("ab", "cde")
        assert (cost.tokens, cost.steps) == (3, 50) and cost.forward > 0 and cost.backward > 0
        assert cost.seconds == pytest.approx(50 * (cost.forward + 3 * cost.backward))
        assert "50 steps" in str(cost) and "3 times back" in str(cost)
        with pytest.raises(ValueError, match="method is 'occlusion', expected 'integrated_gradients'"):
            TextExplainer(language, Letters(), method="occlusion").estimate("ab", "c")

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(prompt=["a"]), TypeError, "prompt is a list, expected a string"),
            (dict(target="prob"), ValueError, "target is 'prob', expected"),
            (dict(target="logit", contrast="b"), ValueError, "contrast was given for the target 'logit'"),
            (dict(contrast=["a", "b"]), ValueError, "contrast holds 2 tokens for a continuation of 1"),
            (dict(contrast="ab"), ValueError, "contrast is 'ab', which the tokenizer makes 2 tokens of"),
            (dict(continuation=""), ValueError, "continuation has no tokens"),
            (dict(continuation=None, max_new_tokens=0), ValueError, "max_new_tokens is 0"),
            (dict(prompt=""), ValueError, "the text '' has no tokens"),
        ],
    )
    def test_others_are_refused(self, letters, arguments, error, message):
        with pytest.raises(error, match=message):
            letters.explain_generation(
                **{"prompt": "ab", "continuation": "c", "progress": False, **arguments}
            )

    def test_a_classifier_has_nothing_to_say(self):
        model = lambda ids: tf.reduce_sum(tf.gather(tf.constant(TABLE), ids), 1)  # noqa: E731
        with pytest.raises(ValueError, match=r"expected logits \[B, T, V\] of the next token"):
            TextExplainer(model, Letters()).explain_generation("a", "b", progress=False)


def test_the_end_of_a_text_is_a_row(monkeypatch):
    keras_hub()
    model = gpt2()
    end = model.preprocessor.tokenizer.end_token_id
    found = TextExplainer(model).explain_generation("the cat", [end], progress=False)
    assert found.continuation == ["<|endoftext|>"] and abs(found.deltas[0]) < 1e-4


def test_an_explanation_shows_itself(letters, tmp_path):
    found = letters.explain_generation("ab", "cd", contrast="x", progress=False)
    assert found.to_prompt.shape == (2, 2)
    names = [text.get_text() for text in found.plot().axes[0].get_yticklabels()]
    assert names == ["c, not x", "d, not x"]
    assert "difference of logits" in found.page(tmp_path / "a.html").path.read_text("utf-8")
    assert found._repr_html_().startswith("<iframe")

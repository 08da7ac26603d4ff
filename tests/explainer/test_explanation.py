"""An Explanation: what belongs to attributions; rows of it, files, pictures, shap."""

import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from igtf.explainer import Explainer, Explanation

RNG = np.random.RandomState(0)
KERNEL = RNG.normal(size=(4, 3)).astype("float32")
ROWS = RNG.normal(size=(5, 4)).astype("float32")


def scores(x):
    return tf.nn.softmax(x @ KERNEL)


def explained(**arguments):
    return Explainer(scores, batch_size=2)(ROWS, baselines=0.5, progress=False, **arguments)


class TestCall:
    @pytest.mark.parametrize("targets, chosen", [(None, "predicted"), (2, 2), ([0, 1, 2, 0, 1], None)])
    def test_outputs_and_base_values_are_those_of_the_output_that_is_explained(self, targets, chosen):
        found = explained(targets=targets)
        p, p0 = scores(ROWS).numpy(), scores(0 * ROWS + 0.5).numpy()
        classes = p.argmax(1) if chosen == "predicted" else np.broadcast_to(targets, 5)
        assert found.targets.tolist() == classes.tolist()
        np.testing.assert_allclose(found.outputs, p[range(5), classes], rtol=1e-5)
        np.testing.assert_allclose(found.base_values, p0[range(5), classes], rtol=1e-5)
        change = found.outputs - found.base_values
        np.testing.assert_allclose(found.values.sum(1), change + found.delta, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.data, ROWS)

    def test_every_output_has_a_column(self):
        found = explained(targets="all")
        np.testing.assert_allclose(found.outputs, scores(ROWS), rtol=1e-5)
        assert found.values.shape == (5, 3, 4) and found.base_values.shape == (5, 3)
        assert found.targets is None and "5 rows" in repr(found)

    def test_weights_are_no_class(self):
        weights = RNG.normal(size=(5, 3)).astype("float32")
        found = explained(targets=weights)
        assert found.targets is None
        np.testing.assert_allclose(found.outputs, (scores(ROWS) * weights).numpy().sum(1), rtol=1e-4)

    def test_methods_that_compare_with_nothing_have_no_base_values(self):
        found = Explainer(scores, "saliency")(ROWS, 1, progress=False)
        assert found.base_values is None and found.delta is None
        np.testing.assert_allclose(found.outputs, scores(ROWS)[:, 1], rtol=1e-5)

    def test_a_stack_of_baselines_has_the_mean_of_their_outputs(self):
        found = Explainer(scores)(ROWS, 1, np.stack([ROWS[:1], ROWS[1:2]]), progress=False)
        np.testing.assert_allclose(
            found.base_values, np.full(5, scores(ROWS[:2])[:, 1].numpy().mean()), rtol=1e-5
        )

    def test_an_operator_a_layer_and_a_tolerance(self):
        def operator(model, inputs, targets):
            return model(inputs)[:, 0] * targets

        found = Explainer(scores, operator=operator, tolerance=0.01)(
            ROWS, np.arange(5.0, dtype="f"), progress=False
        )
        np.testing.assert_allclose(found.outputs, scores(ROWS)[:, 0] * np.arange(5), rtol=1e-5)
        assert found.error.shape == (5,) and found.targets is None
        layers = [tf.keras.layers.Dense(3, name="hidden"), tf.keras.layers.Dense(2)]
        model = tf.keras.Sequential([tf.keras.Input((4,)), *layers])
        found = Explainer(model, layer="hidden")(ROWS, 1, progress=False)
        assert found.values.shape == (5, 3) and found.data.shape == (5, 4)
        np.testing.assert_allclose(found.outputs, model(ROWS)[:, 1], rtol=1e-4, atol=1e-6)

    def test_names_are_checked_before_the_work(self):
        explainer = Explainer(scores)
        with pytest.raises(ValueError, match="4 lists of tokens, expected 5"):
            explainer(ROWS, feature_names=[["a"]] * 4, progress=False)
        assert explainer.traces == 0

    def test_a_data_set_is_refused(self):
        with pytest.raises(TypeError, match="Explanation.concatenate"):
            Explainer(scores)(tf.data.Dataset.from_tensors(ROWS))


def several():
    """Of two inputs, one of them held fixed, with names."""
    values = {"a": ROWS, "b": None}
    data = {"a": ROWS + 1, "b": np.arange(5)}
    return Explanation(values, data, ROWS[:, 0], targets=np.arange(5), feature_names=["x", "y", "z", "w"])


class TestRows:
    @pytest.mark.parametrize(
        "rows, left", [(1, [1]), (slice(1, 4, 2), [1, 3]), ([-1, 0], [4, 0]), (ROWS[:, 0] > 0, None)]
    )
    def test_rows_are_chosen_in_all_that_has_some(self, rows, left):
        left = np.flatnonzero(ROWS[:, 0] > 0) if left is None else left
        found = several()[rows]
        assert len(found) == len(left) and found.values["b"] is None and found.base_values is None
        np.testing.assert_array_equal(found.values["a"], ROWS[left])
        np.testing.assert_array_equal(found.data["b"], left)
        np.testing.assert_array_equal(found.outputs, ROWS[left, 0])

    def test_parts_make_a_whole(self):
        whole = several()
        again = Explanation.concatenate([whole[:2], whole[2:]])
        np.testing.assert_array_equal(again.values["a"], whole.values["a"])
        np.testing.assert_array_equal(again.targets, whole.targets)
        assert again.values["b"] is None and again.feature_names == whole.feature_names

    def test_tokens_go_with_their_rows(self):
        words = [list("ab"), list("c"), list("def"), ["g"], ["h"]]
        whole = Explanation(ROWS, ROWS, feature_names=words)
        assert whole[[2, 0]].feature_names == [words[2], words[0]]
        assert Explanation.concatenate([whole[3:], whole[:1]]).feature_names == [["g"], ["h"], words[0]]

    def test_parts_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="at least"):
            Explanation.concatenate([])
        with pytest.raises(ValueError, match="some parts have delta"):
            Explanation.concatenate([Explanation(ROWS, ROWS, delta=ROWS[:, 0]), Explanation(ROWS, ROWS)])
        with pytest.raises(ValueError, match="feature_names"):
            Explanation.concatenate([Explanation(ROWS, ROWS, feature_names=n) for n in ("abcd", "abce")])


class TestFields:
    @pytest.mark.parametrize(
        "fields, words",
        [
            ({"values": ROWS[:3]}, r"values has shape \(3, 4\), expected 5 rows, as data"),
            ({"targets": np.arange(4)}, r"targets has shape \(4,\), expected 5 rows"),
            ({"feature_names": [["a"]] * 4}, "feature_names has 4 lists of tokens, expected 5"),
            (
                {"outputs": ROWS[:, 0], "base_values": ROWS},
                r"base_values has shape \(5, 4\), expected \(5,\)",
            ),
            (
                {"outputs": ROWS[:, :3]},
                r"values has shape \(5, 4\) and outputs \(5, 3\), expected those of each",
            ),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, fields, words):
        with pytest.raises(ValueError, match=words):
            Explanation(**{"values": ROWS, "data": ROWS, **fields})


class TestFiles:
    @pytest.mark.parametrize("ending", ["npz", "parquet"])
    def test_what_was_saved_is_loaded(self, tmp_path, ending):
        if ending == "parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / f"maps.{ending}"
        pair = (ROWS.reshape(5, 2, 2), ROWS > 0)
        for whole in (
            several(),
            Explanation(pair, list(pair), output_names=["p"], feature_names=[["ü", "\n"]] * 5),
        ):
            whole.save(path)
            again = Explanation.load(path)
            for name in ("values", "data", "outputs", "targets", "delta"):
                before, after = getattr(whole, name), getattr(again, name)
                tf.nest.assert_same_structure(before, after)
                for a, b in zip(tf.nest.flatten(before), tf.nest.flatten(after)):
                    np.testing.assert_array_equal(a, b)
                    assert a is None or np.asarray(a).dtype == b.dtype
            assert again.feature_names == whole.feature_names and again.output_names == whole.output_names

    def test_other_files_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="ends in"):
            several().save(tmp_path / "maps.csv")
        np.savez(tmp_path / "other.npz", x=ROWS)
        with pytest.raises(ValueError, match="holds no explanation"):
            Explanation.load(tmp_path / "other.npz")


class TestPictures:
    def test_words_are_highlighted(self):
        found = Explanation(
            RNG.normal(size=(2, 3, 4)), np.ones([2, 3], int), feature_names=[["<b>", "two"], ["three"]]
        )
        html = found._repr_mimebundle_()["text/html"]
        assert "&lt;b&gt;" in html and "three" in html

    def test_what_has_no_picture_shows_as_text(self):
        found = Explanation(
            ROWS[:, None, None] * np.ones([5, 3, 2, 1]), ROWS, ROWS[:, :3], output_names=list("abc")
        )
        assert set(found._repr_mimebundle_()) == {"text/plain"} and "3 outputs" in repr(found)
        with pytest.raises(ValueError, match="one output"):
            found.plot()


class TestShap:
    """With the real library: what it takes for rows, features and outputs, and that it draws."""

    @pytest.fixture(scope="class")
    def shap(self):
        return pytest.importorskip("shap")

    @pytest.fixture
    def drawn(self, shap):
        """Runs a plot of shap's and closes its figure; warnings of ours are errors."""
        pyplot = pytest.importorskip("matplotlib.pyplot")
        pyplot.switch_backend("agg")

        def draw(plot, *arguments, **options):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                plot(*arguments, **options, show=False)
                pyplot.gcf().canvas.draw()
            pyplot.close("all")
            assert [str(w.message) for w in caught if "igtf" in w.filename] == []

        return draw

    def test_tables_of_every_output_there_and_back(self, shap):
        found = explained(targets="all", feature_names=list("abcd"), output_names=["x", "y", "z"])
        theirs = found.to_shap()
        assert isinstance(theirs, shap.Explanation) and theirs.shape == (5, 4, 3)
        np.testing.assert_allclose(theirs.values.sum(1) + theirs.base_values, scores(ROWS), rtol=1e-3)
        assert list(theirs.feature_names) == list("abcd") and list(theirs.output_names) == ["x", "y", "z"]
        back = theirs[:, :, 1]
        np.testing.assert_array_equal(back.values, found.for_output("y").values)
        np.testing.assert_array_equal(back.data, ROWS)
        np.testing.assert_array_equal(back.base_values, found.for_output("y").base_values)

    def test_tables_are_drawn(self, shap, drawn):
        found = explained(targets=1, feature_names=list("abcd"), output_names=["x", "y", "z"]).to_shap()
        assert found.shape == (5, 4) and found.output_names == "y"
        plots = shap.plots
        drawn(plots.beeswarm, found)
        drawn(plots.waterfall, found[0])
        drawn(plots.scatter, found[:, "b"])
        drawn(plots.heatmap, found)
        drawn(plots.bar, found)
        mixed = explained(output_names=["x", "y", "z"]).to_shap()  # of each row the predicted output
        assert mixed.output_names is None and mixed[2].values.shape == (4,)

    @pytest.mark.parametrize("outputs", [None, 3])
    def test_images_there_and_drawn(self, shap, drawn, outputs):
        images = RNG.uniform(size=(2, 6, 5, 3))
        values = images - 0.5 if outputs is None else RNG.normal(size=(2, outputs, 6, 5, 3))
        ends = np.ones([2] if outputs is None else [2, outputs])
        found = Explanation(values, images, ends, 0 * ends, output_names=outputs and list("abc")).to_shap()
        expected = values if outputs is None else np.moveaxis(values, 1, -1)
        np.testing.assert_array_equal(found.values, expected)
        np.testing.assert_array_equal(found.data, images)
        drawn(shap.plots.image, found)

    @pytest.mark.parametrize("lengths", [(3, 3), (3, 2)])
    @pytest.mark.parametrize("outputs", [None, 2])
    def test_texts_there_and_drawn(self, shap, lengths, outputs):
        words = [[f"word{i}" for i in range(length)] for length in lengths]
        values = RNG.normal(size=[2, 3, 4] if outputs is None else [2, outputs, 3, 4])
        ends = np.ones([2] if outputs is None else [2, outputs])
        names = None if outputs is None else ["yes", "no"]
        found = Explanation(values, np.ones([2, 3], int), ends, ends, feature_names=words, output_names=names)
        theirs = found.to_shap()
        for row, length in enumerate(lengths):
            summed = values[row].sum(-1).T[:length]
            np.testing.assert_allclose(theirs[row].values, summed)
            assert list(theirs[row].data) == words[row]
        html = shap.plots.text(theirs, display=False)
        assert "word2" in html and "word1" in html

    def test_of_a_hidden_layer_there_are_no_data(self, shap, drawn):
        found = Explanation(RNG.normal(size=(5, 7)), ROWS, ROWS[:, 0], ROWS[:, 1]).to_shap()
        assert found.data is None
        drawn(shap.plots.beeswarm, found)

    def test_several_inputs_are_refused(self):
        with pytest.raises(ValueError, match="one array"):
            several().to_shap()

    def test_without_shap_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "shap", None)
        with pytest.raises(ImportError, match="pip install shap"):
            explained().to_shap()

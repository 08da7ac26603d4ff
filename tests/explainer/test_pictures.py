"""What an Explanation shows: the picture that fits, and its data set at a glance."""

import doctest
import importlib

import numpy as np
import pytest
from matplotlib.figure import Figure

from igtf.explainer import Explanation
from igtf.explainer.summary import of_columns

RNG = np.random.RandomState(0)
ROWS = RNG.normal(size=(6, 3))
WORDS = [["not", "bad", "not"], ["bad"], ["good", "bad"]]
SCORES = np.array([[1.0, -3.0, 1.5], [2.0, 9.0, 9.0], [4.0, -1.0, 9.0]])  # 9: padding


def table(**fields):
    return Explanation(ROWS, ROWS + 1, ROWS.sum(1) + 0.5, np.full(6, 0.5), **fields)


class TestSummary:
    def test_numbers_are_those_of_the_rows_by_hand(self):
        found = table(
            targets=np.array([0, 1, 1, 0, 1, 1]), feature_names=list("abc"), output_names=["no", "yes"]
        )
        found = found.summary()
        order = np.argsort(-np.abs(ROWS).sum(0))
        assert found.features == [list("abc")[i] for i in order] and found.classes == ["no", "yes"]
        assert found.rows.tolist() == [2, 4]
        for k, rows in enumerate([ROWS[[0, 3]], ROWS[[1, 2, 4, 5]]]):
            np.testing.assert_allclose(found.size[k], np.abs(rows).mean(0)[order])
            np.testing.assert_allclose(found.mean[k], rows.mean(0)[order])
            np.testing.assert_allclose(found.positive[k], (rows > 0).mean(0)[order])
        assert (found.share == 1).all()

    def test_outputs_without_a_name_have_their_number(self):
        assert table(targets=np.arange(6), output_names=["no"]).summary().classes == ["no", *"12345"]

    def test_rows_of_all_classes_together(self):
        found = table(targets=np.arange(6)).summary(per_class=False)
        assert found.classes == ["all"] and found.rows.tolist() == [6]
        np.testing.assert_allclose(np.sort(found.size[0]), np.sort(np.abs(ROWS).mean(0)))

    def test_of_every_output_each_has_all_rows(self):
        values = RNG.normal(size=(6, 2, 3))
        found = Explanation(values, ROWS, np.ones([6, 2])).summary()
        assert found.classes == ["0", "1"] and found.rows.tolist() == [6, 6]
        np.testing.assert_allclose(np.sort(found.size[1]), np.sort(np.abs(values[:, 1]).mean(0)))
        both = Explanation(values, ROWS, np.ones([6, 2])).summary(per_class=False)
        np.testing.assert_allclose(np.sort(both.size[0]), np.sort(np.abs(values).mean((0, 1))))

    def test_of_texts_the_words_of_a_row_count_together_and_padding_does_not(self):
        found = Explanation(SCORES, np.zeros([3, 3], int), feature_names=WORDS).summary()
        # not: 2.5 in one row; bad: -3, 2, -1; good: 4.
        assert found.features == ["bad", "good", "not"]
        np.testing.assert_allclose(found.size, [[2, 4 / 3, 2.5 / 3]])
        np.testing.assert_allclose(found.mean, [[-2 / 3, 4 / 3, 2.5 / 3]])
        np.testing.assert_allclose(found.share, [[1, 1 / 3, 1 / 3]])
        np.testing.assert_allclose(found.positive, [[1 / 3, 1, 1]])
        embedded = Explanation(SCORES[..., None] * [0.25, 0.75], np.zeros([3, 3], int), feature_names=WORDS)
        np.testing.assert_allclose(embedded.summary().size, found.size)

    def test_names_and_tokens_may_be_arrays(self):
        tokens = np.array([["a", "b", "a"]] * 3)
        assert Explanation(SCORES, SCORES, feature_names=tokens).summary().features == ["a", "b"]
        found = Explanation(ROWS, ROWS, feature_names=np.array(["x", "y", "z"]))
        assert set(found.summary().features) == {"x", "y", "z"} and isinstance(found.beeswarm(), Figure)

    def test_words_of_one_class_are_no_words_of_the_other(self):
        found = Explanation(SCORES, SCORES, targets=np.array([0, 1, 1]), feature_names=WORDS).summary()
        np.testing.assert_allclose(found.size[found.classes.index("1")], [1.5, 2, 0])
        assert np.isnan(found.positive[1, 2]) and found.share[1, 2] == 0

    def test_what_is_not_finite_is_left_out(self):
        found = of_columns({"x": np.array([[1.0, np.nan], [3.0, -5.0], [np.inf, 1.0]])}, ["a", "b"])
        assert found.features == ["b", "a"]
        np.testing.assert_allclose(found.size, [[3, 2]])
        np.testing.assert_allclose(found.positive, [[0.5, 1]])

    def test_as_a_table_as_markdown_and_as_bars(self):
        found = table(targets=np.array([0, 0, 0, 1, 1, 1]), feature_names=["a|b", "c", "d"]).summary()
        columns = found.table()
        assert len({len(column) for column in columns.values()}) == 1 and len(columns["rows"]) == 6
        assert columns["class"].tolist() == ["0"] * 3 + ["1"] * 3
        text = found.markdown(top=2)
        assert len(text.splitlines()) == 2 + 4 + 2 and "Over 3 rows of 0, 3 rows of 1." in text
        every = found.markdown().splitlines()
        assert "a\\|b" in "".join(every) and all(
            line.replace("\\|", "").count("|") == 7 for line in every[:8]
        )
        figure = found.plot()
        assert [ax.get_title() for ax in figure.axes] == ["0 (3 rows)", "1 (3 rows)"]

    @pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 5, 1)])
    def test_images_and_series_are_refused(self, shape):
        with pytest.raises(ValueError, match="summary.*tables"):
            Explanation(np.ones(shape), np.ones(shape)).summary()


class TestOfTables:
    def test_a_beeswarm_has_the_rows_and_their_values(self):
        figure = table(feature_names=list("abc")).beeswarm()
        lines = figure.axes[0].collections
        largest = np.abs(ROWS).mean(0).argmax()
        np.testing.assert_allclose(np.sort(lines[0].get_offsets()[:, 0]), np.sort(ROWS[:, largest]))
        assert len(figure.axes) == 2  # with a colour bar
        assert len(Explanation(ROWS, np.ones([6, 7])).beeswarm().axes) == 1  # of a hidden layer

    @pytest.mark.parametrize("row", [2, -1])
    def test_a_waterfall_leads_to_the_output_of_its_row(self, row):
        ax = table(feature_names=list("abc")).waterfall(row).axes[0]
        assert ax.texts[0].get_text() == "0.5" and float(
            ax.texts[-1].get_text().replace("−", "-")
        ) == pytest.approx(ROWS[row].sum() + 0.5, rel=1e-3)
        labels = [label.get_text() for label in ax.get_yticklabels()]
        strongest = np.abs(ROWS[row]).argmax()
        assert labels[1] == f"{'abc'[strongest]} = {ROWS[row, strongest] + 1:.4g}".replace("-", "−")
        assert "not attributed" not in labels

    def test_a_waterfall_of_a_text_has_its_words(self):
        found = Explanation(SCORES, SCORES, np.ones(3), np.zeros(3), feature_names=WORDS)
        labels = [label.get_text() for label in found.waterfall(2).axes[0].get_yticklabels()]
        assert labels == ["base value", "good", "bad", "not attributed", "output"]

    @pytest.mark.parametrize("feature, other", [("b", None), (1, "c"), ("b", -1)])
    def test_dependence_has_features_by_name_or_number(self, feature, other):
        figure = table(feature_names=list("abc")).dependence(feature, other)
        dots = figure.axes[0].collections[0]
        np.testing.assert_allclose(dots.get_offsets(), np.stack([ROWS[:, 1] + 1, ROWS[:, 1]], 1))
        assert figure.axes[0].get_xlabel() == "b"
        if other is not None:
            np.testing.assert_allclose(dots.get_array(), ROWS[:, 2] + 1)
            assert figure.axes[1].get_ylabel() == "c"

    def test_one_output_of_every_one(self):
        values = RNG.normal(size=(6, 2, 3))
        whole = Explanation(
            values, ROWS, values.sum(-1), np.zeros([6, 2]), delta=np.zeros([6, 2]), output_names=["x", "y"]
        )
        for which in ("y", 1, -1):
            one = whole.for_output(which)
            np.testing.assert_array_equal(one.values, values[:, 1])
            np.testing.assert_array_equal(one.outputs, values[:, 1].sum(-1))
            assert one.targets.tolist() == [1] * 6 and one.base_values.shape == one.delta.shape == (6,)
            assert one.error is None and one.data is whole.data
        assert isinstance(one.beeswarm(), Figure)


class TestThePictureThatFits:
    @pytest.mark.few(3)
    @pytest.mark.parametrize(
        "shape, panels",
        [((5, 4), 2), ((5, 7, 3), 13), ((5, 7, 40), 9), ((5, 8, 8, 1), 9), ((2, 8, 8, 3), 5)],
        ids=["table", "series", "spectra", "grey images", "images"],
    )
    def test_of_tables_series_and_images(self, shape, panels):
        data = RNG.uniform(size=shape)
        found = Explanation(data - 0.5, data)
        assert isinstance(found.plot(), Figure) and len(found.plot().axes) == panels
        assert found._repr_mimebundle_()["image/png"].startswith(b"\x89PNG")

    def test_one_row_of_a_table_is_a_waterfall(self):
        labels = [label.get_text() for label in table()[3].plot().axes[0].get_yticklabels()]
        assert labels[0] == "base value" and labels[-1] == "output"

    def test_of_every_output(self):
        bars = Explanation(np.ones([6, 2, 3]), ROWS, np.ones([6, 2]), output_names=["x", "y"]).plot()
        assert [ax.get_title() for ax in bars.axes] == ["x (6 rows)", "y (6 rows)"]
        images = RNG.uniform(size=(2, 5, 6, 6, 1))
        grid = Explanation(images, images[:, 0], np.ones([2, 5])).plot()
        assert [ax.get_title() for ax in grid.axes[1:6]] == ["0", "1", "2", "3", "4"]

    def test_a_series_of_a_hidden_layer_is_its_own_line(self):
        values = RNG.normal(size=(1, 5, 2))
        figure = Explanation(values, np.ones([1, 5], int), feature_names=["a", "b"]).plot()
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), values[0, :, 0])
        assert figure.axes[1].get_ylabel() == "b"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: table().waterfall(6), "row is 6, expected a number below 6"),
        (lambda: Explanation(ROWS, ROWS).waterfall(), "base_values is None"),
        (lambda: table().dependence("x"), "the feature is 'x', expected 'feature 0'"),
        (lambda: Explanation(ROWS, ROWS[:, :2]).dependence(0), "data is ndarray"),
        (lambda: Explanation(np.ones([6, 2, 3]), ROWS, np.ones([6, 2])).beeswarm(), "for_output"),
        (lambda: Explanation({"a": ROWS}, {"a": ROWS}).beeswarm(), "one array"),
        (lambda: table().for_output(0), "targets='all'"),
        (lambda: table(feature_names=["a"]).beeswarm(), "feature_names has 1 names, expected 3"),
        (lambda: table(feature_names=[["a"]] * 6)[:0].waterfall(), "row is 0, expected a number below 0"),
        (lambda: Explanation(ROWS[:, 0], ROWS, feature_names=[["a"]] * 6).summary(), "for lists of tokens"),
        (lambda: Explanation([ROWS], ROWS).waterfall(), "one array"),
        (
            lambda: Explanation(ROWS[:, None], ROWS, np.ones([6, 1])).for_output("x"),
            "which is 'x', expected '0'",
        ),
        (lambda: Explanation(np.ones([2, 2, 2, 2, 2]), ROWS[:2]).plot(), "values is ndarray"),
    ],
)
def test_messages_say_what_came_and_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("room", ["pictures", "summary", "explanation"])
def test_the_examples_of_the_docstrings_run(room):
    from igtf import Explainer

    module = importlib.import_module(f"igtf.explainer.{room}")
    results = doctest.testmod(module, extraglobs={"Explainer": Explainer, "Explanation": Explanation})
    assert results.attempted and not results.failed

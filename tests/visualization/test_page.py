"""What is written into a page of explanations; tests/visualization/test_page_in_browser.py looks at it."""

import base64
import html
import io
import json
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from screen import YELLOW, noise

from igtf import visualization as viz
from igtf.visualization.page import encode, writer

pytestmark = pytest.mark.filterwarnings("error")
ELEMENT = r'<script type="application/json" id="([\w-]+)">(.*?)</script>'


def write(tmp_path, *args, **options):
    return viz.explanation_page(*args, path=tmp_path / "page.html", **options)


def elements(path):
    """The JSON of a page: its index, and its samples."""
    parts = dict(re.findall(ELEMENT, path.read_text("utf-8")))
    index = json.loads(parts.pop("index"))
    return index, [json.loads(parts[f"sample-{n}"]) for n in range(len(parts))]


def unpacked(sample):
    return zlib.decompress(base64.b64decode(sample["packed"]))


def eight_bits(row, sample):
    """The maps of an image, read by the rules that encode.py states."""
    codes = np.frombuffer(unpacked(sample), np.int8).reshape(len(row["maps"]), *row["shape"]).astype(float)
    scales = np.reshape([map_["scale"] for map_ in row["maps"]], [-1, 1, 1])
    special = {-128: np.nan, 127: np.inf, -127: -np.inf}
    values = codes / encode.LEVELS * scales
    for code, value in special.items():
        values[codes == code] = value
    return values


def halves(data, count, scale):
    low, high = np.frombuffer(data, np.uint8).reshape(2, count).astype(np.uint16)
    return (low | high << 8).astype("<u2").view("<f2").astype(float) * scale


# Values


@pytest.mark.parametrize("size", [1e-300, 1, 1e300])
def test_maps_of_images_are_kept_within_half_a_quantum_and_what_is_not_finite_as_it_is(size, tmp_path):
    maps = size * noise(3, 2, 5, 4)
    maps[1, 0, :3, 1] = np.nan, np.inf, -np.inf
    page = write(tmp_path, noise(3, 5, 4), maps)
    index, samples = elements(page.path)
    for row, sample, expected in zip(index["rows"], samples, maps):
        finite = np.isfinite(expected)
        largest = np.abs(np.where(finite, expected, 0)).max((1, 2), keepdims=True)
        read = eight_bits(row, sample)
        assert (
            np.abs(read[finite] - expected[finite])
            <= np.broadcast_to(largest / 250, finite.shape)[finite] * 1.0001
        ).all()
        np.testing.assert_array_equal(read[~finite], expected[~finite])
    assert [map_.get("missing") for row in index["rows"] for map_ in row["maps"]] == [
        None,
        None,
        3,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("kind", ["text", "table", "series"])
def test_other_maps_are_kept_in_float16(kind, tmp_path):
    maps = 1e5 * noise(2, 3, 7) ** 3
    maps[0, 0, :3] = np.nan, np.inf, -np.inf
    samples = {"text": [["a"] * 7] * 2, "table": noise(2, 7), "series": noise(2, 7)}[kind]
    index, read = elements(write(tmp_path, samples, maps, kind=kind).path)
    for row, sample, expected in zip(index["rows"], read, maps):
        for k, (map_, values) in enumerate(zip(row["maps"], expected)):
            found = halves(unpacked(sample)[14 * k : 14 * k + 14], 7, map_["scale"])
            np.testing.assert_allclose(found, values, rtol=2**-11, atol=2**-25 * map_["scale"])


def test_series_are_kept_between_their_ends_channel_by_channel(tmp_path):
    series = np.stack([noise(1, 9), 1e6 + noise(1, 9, seed=1)], -1)
    series[0, 2, 1] = np.nan
    index, (sample,) = elements(write(tmp_path, series, series[:, :, :1] * [1, 1], kind="series").path)
    assert index["rows"][0]["shape"] == [9, 2]
    start = 2 * 18  # one map, two channels
    for channel, (middle, scale) in enumerate(sample["lines"]):
        line = middle + halves(unpacked(sample)[start + 18 * channel :][:18], 9, scale)
        width = np.nanmax(series[0, :, channel]) - np.nanmin(series[0, :, channel])
        np.testing.assert_allclose(line, series[0, :, channel], atol=width * 2**-11)


def test_sums_are_those_of_the_arrays_and_changes_come_from_deltas(tmp_path):
    maps, deltas, errors = noise(2, 3, 4, 4, 3), noise(2, 3, seed=1), np.abs(noise(2, 3, seed=2))
    scores = noise(2, 3, seed=3)
    index, _ = elements(write(tmp_path, noise(2, 4, 4, 3), maps, scores, deltas=deltas, errors=errors).path)
    pixels = maps.sum(-1)
    for row, values, delta, error, score in zip(index["rows"], pixels, deltas, errors, scores):
        np.testing.assert_allclose([m["sum"] for m in row["maps"]], values.sum((1, 2)), rtol=1e-8)
        np.testing.assert_allclose(
            [m["plus"] for m in row["maps"]], np.maximum(values, 0).sum((1, 2)), rtol=1e-8
        )
        np.testing.assert_allclose(
            [m["minus"] for m in row["maps"]], np.minimum(values, 0).sum((1, 2)), rtol=1e-8
        )
        np.testing.assert_allclose([m["delta"] for m in row["maps"]], delta, rtol=1e-8)
        np.testing.assert_allclose([m["error"] for m in row["maps"]], error, rtol=1e-8)
        assert row["guess"] == score.argmax() and row["sure"] == pytest.approx(score.max())
        assert [m["class"] for m in row["maps"]] == [0, 1, 2]


def test_colours_end_where_a_thousandth_of_the_attribution_is_left(tmp_path):
    values = np.ones([1, 100, 100])
    values[0, 0, 0] = 5  # of 10004 in all
    index, _ = elements(write(tmp_path, values, values).path)
    assert index["rows"][0]["maps"][0]["limit"] == 1 and index["rows"][0]["maps"][0]["scale"] == 5


def test_images_are_kept_as_they_are_or_as_photographs(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, [1, 9, 7, 3], np.uint8)
    photo = np.repeat(np.repeat(small, 12, 1), 12, 2)
    for images, kind, off in [
        (small, "png", 0),
        (small[..., 0], "png", 0),
        (photo, "jpeg", 12),
        (photo[..., 0], "png", 0),
    ]:
        _, (sample,) = elements(write(tmp_path, images, np.zeros(images.shape[:3])).path)
        start = f"data:image/{kind};base64,"
        assert sample["image"].startswith(start)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["image"][len(start) :]))), int)
        expected = images[0]
        assert np.abs(shown - expected).mean() <= off
    broken = small / 255.0
    broken[0, 1, 2] = np.nan
    _, (sample,) = elements(write(tmp_path, broken, np.zeros([1, 9, 7])).path)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample["image"].split(",")[1]))))
    np.testing.assert_allclose(shown[1, 2] / 255, YELLOW, atol=0.01)
    assert sample["missing"] == 1


# Classes


def outcome(tmp_path, predictions=None, names=None, targets=None, maps=1, **options):
    images = noise(2, 4, 5)
    attributions = noise(2, maps, 4, 5)
    index, _ = elements(write(tmp_path, images, attributions, predictions, names, targets, **options).path)
    rows = index["rows"]
    kept = ["truth", "guess", "sure"]
    return (
        index["classes"],
        [[r[k] for k in kept] for r in rows],
        [[m["class"] for m in r["maps"]] for r in rows],
    )


def test_predictions_and_targets_are_scores_class_numbers_one_probability_or_values(tmp_path):
    scores = [[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]]
    names = ["a", "b", "c"]
    assert outcome(tmp_path, scores, names, [1, 2], 3) == (names, [[1, 1, 0.5], [2, 0, 0.9]], [[0, 1, 2]] * 2)
    assert outcome(tmp_path, scores, targets=[[0, 0, 1], [1, 0, 0]]) == (
        ["0", "1", "2"],
        [[2, 1, 0.5], [0, 0, 0.9]],
        [[1], [0]],  # one map is for the prediction
    )
    assert outcome(tmp_path, np.array([1, 0]), targets=[[2], [0]])[:2] == (
        ["0", "1", "2"],
        [[2, 1, None], [0, 0, None]],
    )
    assert outcome(tmp_path, [[0.75], [0.25]], ["no", "yes"], [1, 1]) == (
        ["no", "yes"],
        [[1, 1, 0.75], [1, 0, 0.75]],
        [[1], [1]],  # the only output is the probability of the second class
    )
    assert outcome(tmp_path, [1.5, np.nan], targets=[2.5, 3]) == (
        None,
        [[2.5, 1.5, 1.5], [3, "NaN", "NaN"]],
        [[None]] * 2,
    )
    assert outcome(tmp_path) == (None, [[None, None, None]] * 2, [[None], [None]])


def test_maps_are_for_the_classes_that_are_named(tmp_path):
    scores = [[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]]
    assert outcome(tmp_path, scores, explained=2)[2] == [[2], [2]]
    assert outcome(tmp_path, scores, explained=[2, 1])[2] == [[2], [1]]
    assert outcome(tmp_path, scores, maps=2, explained=[2, 1])[2] == [[2, 1], [2, 1]]
    assert outcome(tmp_path, scores, maps=2, explained=[[2, 1], [0, 1]])[2] == [[2, 1], [0, 1]]
    assert outcome(tmp_path, scores, maps=2)[2] == [[None, None]] * 2
    page = write(tmp_path, noise(1, 3, 3), noise(1, 2, 3, 3), explained=["saliency", "ours"])
    assert elements(page.path)[0]["maps"] == ["saliency", "ours"]


def test_of_square_maps_as_many_as_their_side_each_is_one_unless_there_is_one_of_channels(tmp_path):
    images = noise(2, 5, 5)
    for maps, count in [
        (noise(2, 5, 5, 5), 5),
        (noise(2, 5, 5, 3), 1),
        (noise(2, 5, 5, 5, 3), 5),
        (noise(2, 5, 5), 1),
    ]:
        rows = elements(write(tmp_path, images, maps).path)[0]["rows"]
        assert [len(row["maps"]) for row in rows] == [count, count]


# Streams and files


def test_generators_are_read_sample_by_sample(tmp_path):
    images, maps, read = noise(3, 4, 4), noise(3, 2, 4, 4), []

    class Images(list):
        def __getitem__(self, n):
            read.append(("image", n))
            return images[n]

    def each():
        for n, item in enumerate(maps):
            read.append(("map", n))
            yield item

    page = write(tmp_path, Images(images), each(), deltas=iter(noise(3, 2)))
    assert read == [(what, n) for n in range(3) for what in ("map", "image")]
    plain = write(tmp_path / "..", images, maps)
    assert [s["packed"] for s in elements(page.path)[1]] == [s["packed"] for s in elements(plain.path)[1]]


def test_several_pages_are_written_above_the_largest_size_and_say_so(tmp_path, monkeypatch):
    fixed = len(writer.STYLE) + len(writer.SCRIPT) + len(writer.HEAD) + len(writer.TAIL)
    monkeypatch.setattr(writer, "LARGEST", fixed + 15_000)
    maps = noise(8, 1, 60, 60)
    with pytest.warns(UserWarning, match="more than .* pages"):
        page = write(tmp_path, noise(8, 60, 60), maps)
    names = [path.name for path in page.paths]
    assert len(names) > 2 and names[:2] == ["page.html", "page-2.html"]
    assert max(path.stat().st_size for path in page.paths) <= writer.LARGEST
    indexes = [elements(path)[0] for path in page.paths]
    assert [i["next"] for i in indexes] == [*names[1:], None] and [i["previous"] for i in indexes] == [
        None,
        *names[:-1],
    ]
    rows = [row for i in indexes for row in i["rows"]]
    assert [i["first"] for i in indexes] == list(np.cumsum([0, *(len(i["rows"]) for i in indexes[:-1])]))
    np.testing.assert_allclose([row["maps"][0]["sum"] for row in rows], maps.sum((1, 2, 3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_failure_leaves_no_file_and_an_old_one_alone(tmp_path):
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(ValueError, match=r"attributions\[1\] has shape"):
        write(tmp_path, noise(3, 4, 4), [noise(4, 4), noise(4, 5), noise(4, 4)])
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_the_page_is_at_most_six_tenths_of_float32(tmp_path):
    images, maps = (
        np.random.default_rng(0).random([4, 64, 64, 3], np.float32),
        noise(4, 10, 64, 64).astype(np.float32),
    )
    page = write(tmp_path, images, maps)
    assert page.path.stat().st_size - len(writer.SCRIPT) - len(writer.STYLE) <= 0.6 * (
        images.nbytes + maps.nbytes
    )


def test_it_displays_itself_in_a_frame_and_is_a_path(tmp_path, monkeypatch):
    page = write(tmp_path, noise(1, 4, 4), noise(1, 4, 4), title='<i>"')
    shown = page._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', shown)
    assert html.unescape(inside) == page.path.read_text("utf-8")
    assert 'sandbox="allow-scripts"' in shown and "page.html" in repr(page)
    with open(page) as file:
        assert file.readline() == "<!DOCTYPE html>\n"
    monkeypatch.setattr("igtf.visualization.page.pages.FRAME", 1000)
    assert "iframe" not in page._repr_html_() and "page.html" in page._repr_html_()


def test_text_of_the_data_is_no_markup(tmp_path):
    evil = [
        "</script><script>hacked()</script>",
        "<!--",
        "<img src=x onerror=hacked()>",
        '" onload="',
        "\ud800",
        "😀\0",
    ]
    options = dict(class_names=evil, labels=evil[:1], title=evil[0], kind="text")
    page = write(tmp_path, [evil], noise(1, 6, 6), noise(1, 6, seed=1), **options)
    text = page.path.read_text("utf-8")
    index, samples = elements(page.path)
    assert samples[0]["tokens"] == evil and index["classes"] == evil and index["title"] == evil[0]
    assert text.count("<script") == text.count("</script>") == 3  # the sample, the index and ours
    assert "hacked()</" not in text and "<img" not in text and "http" not in text.replace("http-equiv", "")


# What readers without one kind of cones see of red, green and blue light: Machado et al., 2009,
# https://doi.org/10.1109/TVCG.2009.113
CONES = {
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("cones", CONES)
def test_colours_differ_for_colour_blind_readers(cones):
    found = dict(re.findall(r"--(for|against|missing): (\d+, \d+, \d+);", writer.STYLE))
    light = np.array(
        [[int(part) for part in found[name].split(", ")] for name in ("for", "against", "missing")]
    )
    seen = np.clip((light / 255) ** 2.2 @ np.transpose(CONES[cones]), 0, 1) ** (1 / 2.2) * 255
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(seen[one] - seen[other]).max() > 60


# What is refused


class Frame:
    """What looks like a table of pandas."""

    columns = ("a", "b")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(samples=[], attributions=[]), ValueError, "samples are empty"),
        (dict(samples=np.zeros([0, 4, 4])), ValueError, "samples are empty"),
        (dict(samples=3), TypeError, "samples is a int"),
        (dict(samples={"a": 1}), TypeError, "samples is a dict"),
        (dict(samples=Frame()), TypeError, r"samples.values.tolist\(\)"),
        (dict(attributions=np.array(3.0)), TypeError, "attributions is a ndarray"),
        (dict(targets=[0, 10**9]), ValueError, "class numbers go up to 1000000000"),
        (dict(path=Path(__file__).parent), ValueError, "path is the folder"),
        (dict(samples="abc"), TypeError, "samples is a str"),
        (dict(samples=noise(2, 4)), ValueError, r"samples\[0\] has shape \(4,\); expected \[H, W\]"),
        (dict(samples=noise(2, 4, 4, 2)), ValueError, r"samples\[0\] has shape \(4, 4, 2\)"),
        (dict(attributions=None), TypeError, "attributions is a NoneType"),
        (dict(attributions="ab"), TypeError, "attributions is a str"),
        (dict(attributions=noise(3, 4, 4)), ValueError, "attributions has 3 entries; expected 2"),
        (dict(attributions=noise(2, 4, 5)), ValueError, r"attributions\[0\] has shape \(4, 5\)"),
        (dict(attributions=noise(2, 0, 4, 4)), ValueError, r"attributions\[0\] has shape \(0, 4, 4\)"),
        (dict(attributions=[noise(4, 4), noise(2, 4, 4)]), ValueError, r"attributions\[1\] are 2 maps"),
        (
            dict(attributions=iter(noise(1, 4, 4))),
            ValueError,
            "attributions ended after 1 entries; expected 2",
        ),
        (dict(attributions=iter(noise(3, 4, 4))), ValueError, "attributions has more than 2 entries"),
        (
            dict(attributions=np.full([2, 4, 4], "a")),
            TypeError,
            r"attributions\[0\] is a ndarray that is no array of real",
        ),
        (dict(predictions=noise(3, 2)), ValueError, r"predictions has shape \(3, 2\); expected \[2\]"),
        (dict(predictions=["a", "b"]), TypeError, "predictions is a list that is no array of real numbers"),
        (
            dict(predictions=noise(2, 3), class_names=["a"]),
            ValueError,
            "class_names holds 1 strings and predictions have 3",
        ),
        (
            dict(predictions=[0.5, 2.0], class_names=["a", "b"]),
            ValueError,
            "one column and class_names holds 2",
        ),
        (
            dict(predictions=[0, 5], class_names=["a", "b"]),
            ValueError,
            "predictions hold 5; expected class numbers from 0 to 1",
        ),
        (dict(class_names=[]), ValueError, "class_names is empty"),
        (dict(class_names="ab"), TypeError, "class_names is a str"),
        (
            dict(predictions=noise(2, 3), targets=[0, 3]),
            ValueError,
            "targets hold 3; expected class numbers from 0 to 2",
        ),
        (dict(targets=[0.5, 1]), ValueError, "targets hold what is no class number"),
        (dict(targets=[0, 1, 2]), ValueError, r"targets has shape \(3,\)"),
        (dict(errors=[0.1]), ValueError, "errors has 1 entries; expected 2"),
        (dict(errors=0.1), TypeError, "errors is a float"),
        (dict(deltas=noise(2, 3)), ValueError, r"deltas\[0\] has shape \(3,\); expected \[1\]"),
        (dict(explained=[0, 1, 2]), ValueError, "explained has shape"),
        (dict(explained=1), ValueError, "explained are class numbers, and there are no classes"),
        (dict(explained=["a", "b"]), ValueError, "explained holds 2 strings; expected 1"),
        (dict(explained=7, predictions=noise(2, 3)), ValueError, "explained hold 7"),
        (dict(kind="video"), ValueError, "kind is 'video'; expected one of"),
        (dict(kind=3), TypeError, "kind is a int"),
        (dict(kind="text"), TypeError, r"samples\[0\] holds"),
        (dict(kind="text", samples=[[], ["a"]]), ValueError, r"samples\[0\] has no tokens"),
        (dict(kind="text", samples=[["a"], ["b"]], attributions=noise(2, 3)), ValueError, "drop padding"),
        (dict(kind="table"), TypeError, r"samples\[0\] is a ndarray; expected a row"),
        (dict(kind="table", samples=[[1, None], [1, 2]]), TypeError, r"samples\[0\]\[1\] is a NoneType"),
        (dict(kind="table", samples=[[], []]), ValueError, "samples have no columns"),
        (
            dict(kind="table", samples=noise(2, 3), feature_names=["a"]),
            ValueError,
            "feature_names holds 1 strings and samples have 3",
        ),
        (dict(kind="series", samples=noise(2, 3, 4, 5)), ValueError, r"samples\[0\] has shape \(3, 4, 5\)"),
        (dict(labels=["a"]), ValueError, "labels holds 1 strings; expected 2"),
        (dict(title=3), TypeError, "title is a int"),
        (dict(path=3), TypeError, "path is a int"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_file_is_there(options, error, message, tmp_path):
    arguments = (
        dict(samples=noise(2, 4, 4), attributions=noise(2, 4, 4), path=tmp_path / "page.html") | options
    )
    with pytest.raises(error, match=message):
        viz.explanation_page(**arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 5, 1.7e308, -1.7e308, np.nan, np.inf])
def test_any_values_are_written_without_a_warning(size, tmp_path):
    images = np.full([1, 4, 4], size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind, samples in [("image", images), ("table", images[:, 0]), ("series", images[:, 0])]:
            maps = images if kind == "image" else images[:, 0]
            index, _ = elements(write(tmp_path, samples, maps, kind=kind).path)
            assert float(index["rows"][0]["maps"][0]["scale"]) > 0

"""The example's own parts: batches, the network with its explanations, the loaders."""

import os
import pickle

import numpy as np
import pytest
import tensorflow as tf

import util
from util import (
    BatchFeeder,
    TestNet,
    digit_network,
    load_digits,
    load_mnist,
    load_reviews,
    testnet,
    word_ids,
    word_network,
)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def trained(digits):
    (x, y), _ = digits
    with TestNet(num_features=64) as net:
        net.train(BatchFeeder(x, y, 32), epochs=12)
        yield net


def numpy_forward(net, x):
    """The probabilities in float64 NumPy, from the weights alone."""
    with net.graph.as_default():
        weights = net.session.run(tf.compat.v1.trainable_variables())
    h = np.asarray(x, np.float64)
    for w, b in zip(weights[0:4:2], weights[1:4:2]):
        h = np.maximum(h @ w.astype(np.float64) + b, 0)
    z = h @ weights[4].astype(np.float64) + weights[5]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class TestBatchFeeder:
    def test_every_row_comes_once_an_epoch_with_its_label(self):
        feeder = BatchFeeder(np.arange(10)[:, None], np.arange(10) * 7, 4)
        for _ in range(3):
            x, y = map(np.concatenate, zip(*(feeder.next() for _ in range(len(feeder)))))
            assert sorted(x[:, 0]) == list(range(10))
            np.testing.assert_array_equal(y, x[:, 0] * 7)

    def test_batches_have_the_size_asked_for_and_the_last_one_what_is_left(self):
        feeder = BatchFeeder(np.zeros((10, 2)), np.zeros(10), 4)
        assert len(feeder) == 3
        assert [len(feeder.next()[0]) for _ in range(6)] == [4, 4, 2, 4, 4, 2]

    def test_epochs_differ_and_a_seed_repeats_them(self):
        def epochs(seed):
            feeder = BatchFeeder(np.arange(20), np.arange(20), 20, seed=seed)
            return [feeder.next()[0].tolist() for _ in range(2)]

        assert epochs(1) == epochs(1) != epochs(2)
        assert epochs(1)[0] != epochs(1)[1]

    @pytest.mark.parametrize("size", [0, -1, 2.5, True, None, "4"])
    def test_batch_size_must_be_a_positive_integer(self, size):
        with pytest.raises(ValueError, match="batch_size=.*positive integer"):
            BatchFeeder(np.zeros((3, 2)), np.zeros(3), size)

    @pytest.mark.parametrize("x, y", [(np.zeros((3, 2)), np.zeros(2)), (0.0, np.zeros(2)), ([], [])])
    def test_rows_and_labels_must_match(self, x, y):
        with pytest.raises(ValueError, match="BatchFeeder got"):
            BatchFeeder(x, y, 2)


class TestTestNet:
    def test_it_learns_the_digits(self, trained, digits):
        _, (x, y) = digits
        assert np.mean(trained.predict(x).argmax(axis=1) == y) > 0.93

    def test_predictions_equal_the_formula_in_numpy(self, trained, digits):
        _, (x, _) = digits
        np.testing.assert_allclose(trained.predict(x), numpy_forward(trained, x), atol=1e-5)

    def test_explanations_sum_to_the_change_of_each_probability(self, trained, digits):
        _, (x, _) = digits
        x = x[:70]  # more than two batches
        explained = trained.explain(x)
        assert explained.shape == (70, 10, 64)
        change = numpy_forward(trained, x) - numpy_forward(trained, np.zeros_like(x))
        np.testing.assert_allclose(explained.sum(axis=2), change, atol=0.03)

    def test_explanations_do_not_depend_on_the_batches(self, trained, digits):
        _, (x, _) = digits
        whole = trained.explain(x[:20], baseline=x[20:40])
        parts = trained.explain(x[:20], baseline=x[20:40], batch_size=7)
        np.testing.assert_allclose(whole, parts, atol=1e-6)

    def test_a_baseline_can_be_a_number_one_row_or_one_per_row(self, trained, digits):
        _, (x, _) = digits
        x = x[:5]
        for baseline in (0.5, np.full(64, 0.5), np.full((1, 64), 0.5), np.full((5, 8, 8), 0.5)):
            explained = trained.explain(x, baseline)
            change = numpy_forward(trained, x) - numpy_forward(trained, np.full((5, 64), 0.5))
            np.testing.assert_allclose(explained.sum(axis=2), change, atol=0.03)

    def test_nothing_is_attributed_to_an_input_that_equals_its_baseline(self, trained, digits):
        _, (x, _) = digits
        assert not trained.explain(x[:3], baseline=x[:3]).any()

    def test_images_may_keep_their_height_and_width(self, trained, digits):
        _, (x, _) = digits
        images = x[:3].reshape(3, 8, 8)
        np.testing.assert_array_equal(trained.predict(images), trained.predict(x[:3]))
        np.testing.assert_array_equal(trained.explain(images), trained.explain(x[:3]))

    def test_no_rows_in_no_rows_out(self, trained):
        assert trained.predict(np.zeros((0, 64))).shape == (0, 10)
        assert trained.explain(np.zeros((0, 64))).shape == (0, 10, 64)

    def test_the_second_copy_shares_the_weights(self):
        with TestNet(num_features=12, num_steps=3) as net:
            with net.graph.as_default():
                variables = tf.compat.v1.trainable_variables()
            assert [v.shape.as_list() for v in variables] == [
                [12, 128], [128], [128, 64], [64], [64, 10], [10]
            ]  # fmt: skip
            assert all(v.name.startswith("predictor/") for v in variables)
            assert [e.shape.as_list() for e in net.explanations] == [[None, 12]] * 10

    def test_the_same_seed_gives_the_same_network(self, digits):
        (x, y), _ = digits

        def probabilities(seed):
            with TestNet(num_features=64, num_steps=1, seed=seed) as net:
                net.train(BatchFeeder(x[:200], y[:200], 50))
                return net.predict(x[:5])

        np.testing.assert_allclose(probabilities(3), probabilities(3), atol=1e-6)
        assert np.abs(probabilities(3) - probabilities(4)).max() > 1e-3

    def test_one_hot_labels_train_as_numbers_do(self, digits):
        (x, y), _ = digits

        def probabilities(labels):
            with TestNet(num_features=64, num_steps=1) as net:
                net.train(BatchFeeder(x[:200], labels[:200], 50))
                return net.predict(x[:5])

        np.testing.assert_allclose(probabilities(np.eye(10)[y]), probabilities(y), atol=1e-6)

    def test_training_shows_its_progress(self, digits, capsys):
        (x, y), _ = digits
        with TestNet(num_features=64, num_steps=1) as net:
            net.train(BatchFeeder(x[:100], y[:100], 50), epochs=2)
        shown = capsys.readouterr().out
        assert "\x1b" not in shown and shown.endswith("\n")  # notebooks show escape codes as they are
        assert "2/2" in shown and "accuracy" in shown and "loss" in shown

    def test_the_original_name_still_works(self):
        with testnet() as net:
            assert net.predict(np.zeros((2, 28, 28))).shape == (2, 10)

    def test_pytest_leaves_it_alone(self):
        assert TestNet.__test__ is False

    def test_after_close_it_predicts_no_more(self):
        net = TestNet(num_features=4, num_steps=1)
        net.close()
        net.close()
        with pytest.raises(RuntimeError):
            net.predict(np.zeros((1, 4)))

    @pytest.mark.parametrize("call", ["predict", "explain"])
    @pytest.mark.parametrize("x", [np.zeros(64), np.zeros((2, 65)), np.zeros((2, 7, 8)), 1.0])
    def test_rows_of_another_size_are_refused(self, trained, call, x):
        with pytest.raises(ValueError, match=rf"{call} got x of shape .* takes 64 features"):
            getattr(trained, call)(x)

    def test_strings_are_refused(self, trained):
        with pytest.raises(TypeError, match="predict got x of type"):
            trained.predict(np.array([["a"] * 64]))

    @pytest.mark.parametrize("shape", [(63,), (3, 64), (2, 10, 64)])
    def test_baselines_that_do_not_fit_are_refused(self, trained, shape):
        with pytest.raises(ValueError, match="explain got a baseline of shape"):
            trained.explain(np.zeros((2, 64)), np.zeros(shape))

    @pytest.mark.parametrize("y", [[0, 10], [0, -1], [0.5, 1], [[0], [1]], ["0", "1"]])
    def test_labels_must_be_classes(self, trained, y):
        with pytest.raises(ValueError, match="train got labels of shape"):
            trained.train(BatchFeeder(np.zeros((2, 64)), y, 2))

    def test_arguments_must_make_sense(self, trained):
        with pytest.raises(TypeError, match="train got a tuple.*BatchFeeder"):
            trained.train((np.zeros((2, 64)), [0, 1]))
        with pytest.raises(ValueError, match="epochs=0"):
            trained.train(BatchFeeder(np.zeros((2, 64)), [0, 1], 2), epochs=0)
        with pytest.raises(ValueError, match="batch_size=0"):
            trained.explain(np.zeros((2, 64)), batch_size=0)
        with pytest.raises(ValueError, match="num_features=0"):
            TestNet(num_features=0)


def test_importing_everything_leaves_the_programs_own_names_alone():
    scope = {"tf": "theirs", "np": "theirs", "ig": "theirs"}
    exec("from util import *", scope)
    assert scope["tf"] == scope["np"] == scope["ig"] == "theirs"
    assert scope["testnet"] is TestNet and "BatchFeeder" in scope and "load_digits" in scope


def test_reviews_are_words_of_the_vocabulary_and_padding_is_no_word():
    texts, labels, vocabulary = load_reviews()
    assert len(texts) == len(labels) == 52 and labels.sum() == 26
    ids = word_ids(texts, vocabulary)
    assert ids.shape == (52, 12) and vocabulary[0] == ""
    assert [[vocabulary[i] for i in row if i] for row in ids] == texts


def test_the_keras_networks_take_what_the_loaders_return(digits):
    (x, y), _ = digits
    network = digit_network()
    network.fit(x[:64].reshape(-1, 8, 8, 1), y[:64], verbose=0)
    assert network.get_layer("hidden").output.shape[-1] == 64
    np.testing.assert_allclose(np.sum(network(x[:2].reshape(-1, 8, 8, 1)), axis=1), 1, rtol=1e-5)
    texts, labels, vocabulary = load_reviews()
    reader = word_network(len(vocabulary))
    reader.fit(word_ids(texts, vocabulary), labels, verbose=0)
    assert reader.get_layer("words") and reader(word_ids(texts[:3], vocabulary)).shape == (3, 1)


class TestLoadDigits:
    def test_it_holds_the_1797_digits(self, digits):
        (x_train, y_train), (x_test, y_test) = digits
        assert x_train.shape == (1437, 64) and x_test.shape == (360, 64)
        assert y_train.shape == (1437,) and y_test.shape == (360,)
        assert x_train.dtype == np.float32 and (x_train.min(), x_train.max()) == (0, 1)
        assert set(y_train) == set(y_test) == set(range(10))

    def test_no_digit_is_in_both_parts(self, digits):
        (x_train, _), (x_test, _) = digits
        assert not {x.tobytes() for x in x_train} & {x.tobytes() for x in x_test}

    def test_it_is_the_same_every_time(self, digits):
        for old, new in zip(digits, load_digits()):
            np.testing.assert_array_equal(old[0], new[0])
            np.testing.assert_array_equal(old[1], new[1])


def mnist_arrays():
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (6, 28, 28), np.uint8),
        "y_train": np.array([0, 1, 2, 3, 4, 9], np.uint8),
        "x_test": np.full((2, 28, 28), 255, np.uint8),
        "y_test": np.array([5, 6], np.uint8),
    }


class TestLoadMnist:
    def test_a_local_file_is_scaled_and_flattened(self, tmp_path):
        arrays = mnist_arrays()
        np.savez_compressed(tmp_path / "mnist.npz", **arrays)
        (x_train, y_train), (x_test, y_test) = load_mnist(tmp_path / "mnist.npz")
        np.testing.assert_allclose(x_train, arrays["x_train"].reshape(6, 784) / 255, rtol=1e-6)
        assert x_train.dtype == np.float32 and (x_test == 1).all()
        assert y_train.tolist() == [0, 1, 2, 3, 4, 9] and y_test.tolist() == [5, 6]

    def test_without_a_path_keras_loads_it(self, monkeypatch):
        a = mnist_arrays()
        parts = (a["x_train"], a["y_train"]), (a["x_test"], a["y_test"])
        monkeypatch.setattr(util.tf.keras.datasets.mnist, "load_data", lambda: parts)
        (x_train, _), (x_test, y_test) = load_mnist()
        assert x_train.shape == (6, 784) and (x_test == 1).all() and y_test.tolist() == [5, 6]

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere.npz"):
            load_mnist(tmp_path / "nowhere.npz")

    @pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
    def test_a_missing_array_is_named(self, tmp_path, name):
        arrays = mnist_arrays()
        del arrays[name]
        np.savez(tmp_path / "mnist.npz", **arrays)
        with pytest.raises(ValueError, match=f"found no {name} in"):
            load_mnist(tmp_path / "mnist.npz")

    @pytest.mark.parametrize(
        "name, value",
        [
            ("x_train", np.zeros((6, 28, 28))),
            ("x_train", np.zeros((6, 784), np.uint8)),
            ("x_test", np.zeros((3, 28, 28), np.uint8)),
            ("y_train", np.zeros(6)),
            ("y_train", np.zeros((6, 10), np.uint8)),
            ("y_test", np.array([5, 10])),
        ],
    )
    def test_arrays_of_another_kind_are_refused(self, tmp_path, name, value):
        np.savez(tmp_path / "mnist.npz", **{**mnist_arrays(), name: value})
        with pytest.raises(ValueError, match="load_mnist found"):
            load_mnist(tmp_path / "mnist.npz")

    def test_pickled_arrays_are_refused_and_not_run(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        trap = np.array([Trap()], object)
        np.savez(tmp_path / "mnist.npz", **{**mnist_arrays(), "y_test": trap})
        (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
        for name in ("mnist.npz", "bare.npz"):
            with pytest.raises(ValueError, match="load_mnist"):
                load_mnist(tmp_path / name)
        assert not (tmp_path / "executed").exists()

    def test_corrupt_files_are_refused(self, tmp_path):
        np.savez_compressed(tmp_path / "good.npz", **mnist_arrays())
        good = (tmp_path / "good.npz").read_bytes()
        flipped = bytearray(good)
        flipped[len(good) // 4] ^= 0xFF
        np.save(tmp_path / "single.npy", np.zeros(3))
        for content in (b"", b"not a file of arrays", good[: len(good) // 2], bytes(flipped),
                        (tmp_path / "single.npy").read_bytes()):  # fmt: skip
            (tmp_path / "bad.npz").write_bytes(content)
            with pytest.raises(ValueError, match="load_mnist .*bad.npz"):
                load_mnist(tmp_path / "bad.npz")

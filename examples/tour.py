"""What the notebooks of this folder share; importing it makes `igtf` and `util` importable."""

import io
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.append(str(Path(__file__).resolve().parent.parent / "build/published"))
sys.path.append(str(Path(__file__).resolve().parent.parent / "tests/visualization"))

import browser
import numpy as np
import tensorflow as tf
from IPython.display import Image, display

import igtf as ig
from igtf import methods

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "build/published"  # packages that `make examples` installs for published.ipynb
tf.get_logger().setLevel("ERROR")  # no deprecation warnings
PICTURES = Path(os.environ.get("PICTURES", ROOT / "build"))
PICTURES.mkdir(exist_ok=True)


def show(figure, name, dpi=200):
    """Saves a figure in the folder PICTURES and displays it."""
    figure.savefig(PICTURES / name, facecolor="white", dpi=dpi)
    shown = io.BytesIO()
    figure.savefig(shown, format="jpeg", facecolor="white", dpi=100, pil_kwargs={"quality": 90})
    display(Image(data=shown.getvalue()))


def show_page(page, number, name):
    """Saves how a sample of a page looks in a browser, if there is one, and displays that."""
    try:
        driver = browser.start()
    except LookupError as reason:
        print(f"no picture: {reason}")
        return
    screen = browser.Screen(driver, page.path, width=1280, height=900)
    screen.open(number)
    screen.screenshot(PICTURES / name)
    driver.quit()
    display(Image(filename=PICTURES / name))


def photographs():
    """A pagoda and a dahlia, which come with scikit-learn: `[2, 213, 320, 3]`, values in 0..1."""
    from sklearn.datasets import load_sample_images

    photos = np.stack(load_sample_images().images)[:, :426].astype("float32") / 255
    return photos.reshape(2, 213, 2, 320, 2, 3).mean(axis=(2, 4))  # half as high and wide


def patches(photos, count, size=64, seed=0):
    """Patches of the photographs, turned and mirrored, and their classes: 0 pagoda, 1 dahlia, 2 nothing."""
    random = np.random.default_rng(seed)

    def patch():
        label = random.integers(2)
        row, column = (random.integers(length - size) for length in photos.shape[1:3])
        pixels = photos[label, row : row + size, column : column + size]
        label = label if pixels.std(axis=(0, 1)).mean() > 0.08 else 2  # sky, and leaves out of focus
        pixels = random.uniform(0.3, 1.3) * (pixels - pixels.mean()) + random.uniform(0.2, 0.8)
        pixels = np.rot90(pixels, random.integers(4))
        return pixels[:, :: random.choice([-1, 1])].clip(0, 1), label

    def nothing():
        """A plain colour, often black, with more or less noise."""
        noise = random.uniform(-0.5, 0.5, size=[size, size, 3]) * random.choice([0, random.random()])
        colour = random.choice([0, 1], p=[0.2, 0.8]) * random.random(3)
        return (colour + noise).clip(0, 1), 2

    images, labels = zip(*(nothing() if i % 5 == 0 else patch() for i in range(count)))
    return np.array(images, "float32"), np.array(labels)


def photo_network():
    """Four convolutions and a softmax over pagoda, dahlia, nothing: for images of any size; untrained."""
    layers = tf.keras.layers
    stack = [tf.keras.Input((None, None, 3))]
    for filters, window in [(8, 7), (24, 3), (48, 3)]:
        stack += [layers.Conv2D(filters, window, activation="relu", padding="same")]
        stack += [layers.AveragePooling2D(2)]
    stack += [layers.Conv2D(48, 3, activation="relu", padding="same"), layers.GlobalAveragePooling2D()]
    network = tf.keras.Sequential([*stack, layers.Dense(3, activation="softmax")])
    network.compile(tf.keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def explain_images(ys, xs, weights, low, high):
    """Tensors: gradient times input, integrated gradients from black, their mean over random colours."""
    (gradients,) = tf.gradients(ys, xs, weights)
    from_black = ig.integrated_gradients(ys, xs, low, grad_ys=weights)
    colours = tf.random.stateless_uniform([100, 1, 1, 3], [0, 0], low, high)
    colours = tf.broadcast_to(colours, tf.concat([[100], tf.shape(xs)[1:]], axis=0))
    from_colours = methods.expected_gradients(ys, xs, colours, num_samples=100, seed=0, grad_ys=weights)
    return gradients * (xs - low), from_black, from_colours


def imagenet(choice):
    """The photographs explained by a network that was trained on ImageNet.

    Args:
      choice: "1" downloads a MobileNetV2; else the path of `tensorflow_inception_graph.pb`.

    Returns:
      `(images, what is seen in them, what explain_images returns)`, or why there is no such network.
    """
    if not choice:
        return None, "IMAGENET is not set"
    try:
        return (_mobilenet() if choice == "1" else _inception(Path(choice))), ""
    except Exception as error:  # Keras raises a plain Exception for a download that failed
        return None, f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _centre(size):
    """The photographs, cropped to a square and resized: `[2, size, size, 3]`, values from 0 to 255."""
    from sklearn.datasets import load_sample_images

    squares = tf.cast(np.stack(load_sample_images().images)[:, :, 100:527], tf.float32)
    return tf.image.resize(squares, [size, size], antialias=True).numpy()


def _mobilenet():
    socket.setdefaulttimeout(20)
    network = tf.keras.applications.MobileNetV2()
    images = _centre(224)
    prepared = tf.keras.applications.mobilenet_v2.preprocess_input(images.copy())  # -1 to 1
    scores = network.predict(prepared, verbose=0)
    top = tf.keras.applications.mobilenet_v2.decode_predictions(scores, top=1)

    @tf.function
    def explain(x, weights):
        return explain_images(network(x, training=False), x, weights, -1.0, 1.0)

    weights = np.eye(scores.shape[1], dtype="float32")[scores.argmax(axis=1)]
    names = [f"{name.replace('_', ' ')} {score:.0%}" for [(_, name, score)] in top]
    return images, names, [part.numpy() for part in explain(prepared, weights)]


def _inception(path):
    """Of a frozen graph, with the names of its classes in a file beside it."""
    graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    images = _centre(224)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 224, 224, 3])  # 0 to 255, less the mean of ImageNet
        (ys,) = tf.import_graph_def(graph_def, {"input": x}, return_elements=["softmax2:0"])
        weights = tf.one_hot(tf.argmax(ys, axis=1), tf.shape(ys)[1])
        explained = explain_images(ys, x, weights, -117.0, 138.0)
        scores, parts = session.run([ys, explained], {x: images - 117})
    labels = path.with_name("imagenet_comp_graph_label_strings.txt")
    known = labels.read_text().splitlines() if labels.exists() else [f"class {i}" for i in range(2000)]
    return images, [f"{known[score.argmax()]} {score.max():.0%}" for score in scores], parts


def plant(images, labels, lies, random):
    """Noisy digits `[N, 64]` with the corner pixel white for 5 to 9, or for 0 to 4 where it lies."""
    noisy = np.clip(images + random.normal(0, 0.3, images.shape), 0, 1).astype(np.float32)
    noisy[:, 0] = (labels >= 5) != lies
    return noisy


def species_and_area():
    """A network of two inputs, petals and sepals, and two outputs, logits of species and a petal's area."""
    layers = tf.keras.layers
    petals, sepals = tf.keras.Input((2,), name="petals"), tf.keras.Input((2,), name="sepals")
    merged = layers.Concatenate()([layers.Dense(8, "relu")(petals), layers.Dense(8, "tanh")(sepals)])
    outputs = {"species": layers.Dense(3)(merged), "petal_area": layers.Dense(1)(merged)}
    network = tf.keras.Model({"petals": petals, "sepals": sepals}, outputs)
    losses = {
        "species": tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "petal_area": "mse",
    }
    network.compile(tf.keras.optimizers.Adam(0.02), losses)
    return network

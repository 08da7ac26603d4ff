"""The wheel holds the modules and its metadata; one file alone is enough for the recipe."""

import email
import inspect
import os
import re
import shutil
import subprocess
import sys
import typing
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import igtf
import igtf.methods
import integrated_gradients_tf
from igtf import visualization

ROOT = Path(__file__).parent.parent
MODULES = [path for path in [*ROOT.glob("*.py"), *ROOT.glob("igtf/**/*.py")] if path.name != "util.py"]

RECIPE = """
import sys

import numpy as np
import tensorflow as tf

import integrated_gradients_tf as ig

@tf.function
def explain(x):
    inter, stepsize, _ = ig.linear_interpolation(x, num_steps=4)
    return ig.build_ig(inter, stepsize, tf.reduce_sum(inter**2, axis=1), num_steps=4)

x = np.float32([[3, 2], [1, 0]])
np.testing.assert_allclose(explain(x), x**2, rtol=1e-5)
assert "igtf" not in sys.modules
print(ig.__file__)
"""
PACKAGE = """
import sys

import numpy as np
import tensorflow as tf

import igtf as ig
import integrated_gradients_tf

@tf.function
def explain(x):
    return ig.integrated_gradients(tf.reduce_sum(x**2, axis=1), x, num_steps=4)

x = np.float32([[3, 2], [1, 0]])
np.testing.assert_allclose(explain(x), x**2, rtol=1e-5)
assert ig.linear_interpolation is integrated_gradients_tf.linear_interpolation
assert not {"igtf.explainer", "igtf.visualization"} & set(sys.modules)
assert ig.Explainer is sys.modules["igtf.explainer"].Explainer
print(ig.__file__)
"""


def run(folder, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_single_file_alone_runs_the_recipe(tmp_path):
    shutil.copy(ROOT / "integrated_gradients_tf.py", tmp_path)
    (tmp_path / "program.py").write_text(RECIPE)
    assert Path(run(tmp_path, "program.py").strip()).parent.samefile(tmp_path)


@pytest.mark.slow
def test_the_file_and_the_package_copied_together_run_the_readme(tmp_path):
    shutil.copy(ROOT / "integrated_gradients_tf.py", tmp_path)
    shutil.copytree(ROOT / "igtf", tmp_path / "igtf")
    tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)]).save(tmp_path / "model.keras")
    np.save(tmp_path / "rows.npy", np.zeros([5, 4], np.float32))
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert len(blocks) > 5
    (tmp_path / "program.py").write_text("\n".join([PACKAGE, *blocks]))
    place = run(tmp_path, "program.py").splitlines()[0]
    assert Path(place).parent.parent.samefile(tmp_path)


def test_the_wheel_holds_the_modules_and_their_metadata(tmp_path):
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("needs setuptools 77, which reads the licence as an expression; it comes with .[dev]")
    source, wheels, installed = (tmp_path / name for name in ("source", "wheels", "installed"))
    source.mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, source)
    shutil.copytree(ROOT / "igtf", source / "igtf", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run(tmp_path, "-m", "pip", "wheel", *options, "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")

    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = email.message_from_string(file.read(metadata).decode())
        file.extractall(installed)
    page = [
        path
        for path in (ROOT / "igtf/visualization/page").iterdir()
        if path.suffix in (".css", ".html", ".js")
    ]
    installable = {path.relative_to(ROOT).as_posix() for path in [*MODULES, *page]} | {"igtf/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == installable
    assert headers["Name"] == "integrated-gradients-tf" and headers["License-Expression"] == "Apache-2.0"
    assert headers["Requires-Python"] == ">=3.10" and "tensor" in headers["Summary"].lower()
    required = [line for line in headers.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(required) == ["matplotlib", "numpy", "tensorflow>=2.12"]
    assert any(name.endswith("/LICENSE") for name in names)

    (installed / "program.py").write_text(RECIPE + PACKAGE)
    for place, inside in zip(run(installed, "program.py").splitlines(), (".", "igtf"), strict=True):
        assert Path(place).parent.samefile(installed / inside)


@pytest.mark.parametrize("module", [integrated_gradients_tf, igtf, igtf.methods, visualization])
def test_public_functions_have_type_hints(module):
    for name in module.__all__:
        public = getattr(module, name)
        functions = [public]
        if inspect.isclass(public):
            functions = [public.__init__, public.explain, public.explain_batches]
        for function in functions:
            names = [p for p in inspect.signature(function).parameters if p != "self"]
            assert set(typing.get_type_hints(function)) == {*names, "return"}, name

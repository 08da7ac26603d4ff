"""Data sets of any size, on all the machines of a cluster, by Ray Data (`pip install 'ray[data]'`).

`python -m igtf.ray model.keras rows.parquet maps.parquet` explains a file; `--help` lists its options.
"""

from igtf.ray.dataset import explain_dataset, load_explainer

__all__ = ["explain_dataset", "load_explainer"]

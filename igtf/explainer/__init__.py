"""Model in, numbers out: an Explainer of arrays and data sets."""

from igtf.explainer.explainer import Explainer

__all__ = ["Explainer"]

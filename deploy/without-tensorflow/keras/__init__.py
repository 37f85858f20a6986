"""Stands in for Keras, as `tensorflow` beside it does for TensorFlow."""

import sys

import tensorflow

sys.modules[__name__].__class__ = type(tensorflow)

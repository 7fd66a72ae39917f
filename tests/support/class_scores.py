"""The scores of given outputs."""

import numpy as np

from keras_pipeline.evaluation import multiclass

CROSSENTROPY = "categorical_crossentropy"
QUADRATIC_LOSSES = ("mean_squared_error", "mean_absolute_error")


def score(outputs, labels, loss=CROSSENTROPY, penalty=0.0, bins=10):
    return multiclass.class_scores(outputs, np.asarray(labels), loss, penalty, bins)

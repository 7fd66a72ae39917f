"""The scores of given outputs."""

import numpy as np

from keras_pipeline.evaluation import multiclass


def score(outputs, labels, loss=0.5, bins=10):
    return multiclass.class_scores(outputs, np.asarray(labels), loss, bins)

"""The bytes of a picture as an image that a network takes: as its training had pictures, or as its drawings are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_pipeline.serving.page.pictures import network_input
from keras_pipeline.sources.pictures import Preparation, picture_size, prepare_picture

EMPTY = "nothing on it: all of it is as bright as its border. Expected: something light on dark, or dark on light"


def image_of_picture(
    content: bytes, shape: Sequence[int], preparation: Mapping[str, Any] | None, drawing: Mapping[str, Any] | None
) -> NDArray[np.uint8]:
    """uint8 (height, width, channels) of that shape. `preparation`: how the training prepared pictures, where it had
    any; `drawing`: how its images were made otherwise, where that is known.

    Raises ValueError, with what is wrong and what is expected, where it is no picture, damaged or too large.
    """
    if preparation:
        return prepare_picture(content, Preparation(**preparation))
    height, width, channels = shape
    own = Preparation(*picture_size(content), "stretch", "grey" if channels == 1 else "rgb", "white")
    layers = prepare_picture(content, own).transpose(2, 0, 1)
    found = [network_input(layer, drawing, height, width) for layer in layers]
    if any(layer is None for layer in found):
        raise ValueError(EMPTY)
    return np.stack([layer for layer in found if layer is not None], axis=-1)

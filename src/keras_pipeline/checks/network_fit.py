"""Whether the network of the params takes what the dataset gives, and what to change where it does not."""

from collections.abc import Iterator

from keras_pipeline.config.layers import Shape, shapes
from keras_pipeline.config.params import Model
from keras_pipeline.models.architectures import hidden_layers
from keras_pipeline.strict_yaml.faults import KeyedError


def network_faults(model: Model, shape: Shape) -> Iterator[KeyedError]:
    """Why the network cannot take an input of this shape, (height, width, channels) or (features,), if it cannot; also
    of a list of layers that waits for its architecture."""
    if model.architecture == "cnn":
        yield from _convolution_faults(model, shape)
    for index in range(len(model.layers)):
        try:
            shapes(model.layers[: index + 1], shape)
        except ValueError as error:
            yield KeyedError(("model", "layers", index), str(error))
            return
    if model.architecture != "layers":
        return
    last = shapes(hidden_layers(model), shape)[-1]
    if len(last) != 1:
        received = f"the last layer gives {' × '.join(map(str, last))}" if model.layers else "the list is empty"
        yield KeyedError(
            ("model", "layers"),
            f"{received}, but the output layer, which the pipeline "
            "adds, needs a flat input. End the list with {layer: Flatten} or {layer: GlobalAveragePooling2D}.",
        )


def _convolution_faults(model: Model, shape: Shape) -> Iterator[KeyedError]:
    """Each of the filters halves the image."""
    if len(shape) != 3:
        yield KeyedError(
            ("model", "architecture"), "'cnn' is for images, and the dataset is a table. Use mlp or layers."
        )
        return
    halvings, asked = min(shape[:2]).bit_length() - 1, len(model.filters)
    if asked > halvings:
        way_out = f"Use {halvings} filters at most" if halvings else "Use another architecture"
        yield KeyedError(
            ("model", "filters"),
            f"each of {asked} is followed by a pooling that halves the image, and images of {shape[0]} × {shape[1]} "
            f"can be halved {halvings} times. {way_out}.",
        )

"""The network in TensorFlow's own formats: a SavedModel, and LiteRT, for phones and microcontrollers.

All are made of one graph, in which the weights are constants and every name follows from the network: the same network
gives the same bytes, in whatever process, and however often in one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_pipeline.core import files, terminal
from keras_pipeline.core.errors import ParamsError

Kind = Literal["float32", "dynamic_int8", "int8"]
"""Of a LiteRT file. dynamic_int8: weights of 8 bits, all else float32; int8: all of it, input and outputs too."""


def write_saved_model(network: keras.Sequential, folder: Path) -> None:
    """Write what `model_file.serving_model` gives as a SavedModel, whose signature `serving_default` takes what the
    network takes, by its name, and gives `outputs`. The folder is new, or is replaced.

    TensorFlow, whatever serves its models, and its converters read it; Keras does not train it on.
    """
    frozen = _frozen(network, network.inputs[0].dtype)
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append(tf.saved_model.SERVING)
    graph.meta_info_def.tensorflow_version = tf.__version__
    graph.graph_def.CopyFrom(frozen.graph.as_graph_def())
    signature = graph.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    signature.method_name = "tensorflow/serving/predict"
    for described, name, [tensor] in (
        (signature.inputs, network.inputs[0].name, frozen.inputs),
        (signature.outputs, "outputs", frozen.outputs),
    ):
        described[name].name = tensor.name
        described[name].dtype = tensor.dtype.as_datatype_enum
        described[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    files.clear_folder(folder)
    files.write_atomically(folder / "saved_model.pb", saved.SerializeToString(deterministic=True))


def write_litert(network: keras.Sequential, path: Path, kind: Kind, representative: NDArray[Any] | None = None) -> None:
    """Write what `model_file.serving_model` gives as a LiteRT file, with LiteRT's own operators only.

    float32 and dynamic_int8 take what the network takes; int8 takes it as int8, by the input's scale and zero point,
    and its ranges are those that it meets for the inputs of `representative`, raw ones of the training split. Each has
    one input as it is and can be given another number of them. Raises ParamsError, with the operators' names, where
    LiteRT lacks some, and for int8 of a table.
    """
    if kind == "int8" and network.inputs[0].name == "features":
        raise ParamsError(
            "params.yaml: export.formats: litert_int8: the network takes a table, whose columns would share one scale "
            "of 256 steps, however different they are. Expected: a network of images. Use litert_dynamic_int8."
        )
    frozen = _frozen(network, "float32" if kind == "int8" else network.inputs[0].dtype)
    lacking: re.Match[str] | None = None
    with terminal.withheld_errors():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            converter.representative_dataset = lambda: _one_by_one(representative)
        try:
            content = converter.convert()
        except Exception as fault:  # of a class that TensorFlow does not show
            lacking = re.search(r"(?:TF Select|Custom) ops: ([\w, ]+)", str(fault))
            if not lacking:
                raise
    if lacking:
        raise ParamsError(
            f"params.yaml: export.formats: litert_{kind}: the network needs the operators {lacking[1].strip()}, which "
            "LiteRT does not have of its own. Take this format out of the list, or use another activation in the "
            "network."
        )
    files.write_atomically(path, content)


def _one_by_one(inputs: Any) -> Iterator[list[NDArray[np.float32]]]:
    for one in inputs:
        yield [one[np.newaxis].astype(np.float32)]


def _frozen(network: keras.Sequential, dtype: str) -> Any:
    """The network as one TensorFlow function of raw inputs of this type, its weights constants.

    Called layer by layer: Keras' Reshape and Flatten would count the inputs, by operators that microcontrollers lack.
    """
    name = network.inputs[0].name

    def answer(raw: Any) -> Any:
        value = raw
        for layer in network.layers:
            if isinstance(layer, keras.layers.Reshape | keras.layers.Flatten):
                shape = layer.compute_output_shape(value.shape)[1:]
                value = tf.reshape(tf.cast(value, layer.compute_dtype), (-1, *shape))
            else:
                value = layer(value)
        return tf.identity(value, name="outputs")

    taken = tf.TensorSpec((None, *network.input_shape[1:]), dtype, name=name)
    with terminal.withheld_errors():
        return convert_variables_to_constants_v2(tf.function(answer).get_concrete_function(taken))

"""Score the vocabulary only for the tokens that generation reads: the last, of a prompt.

The product with the vocabulary's matrix is a decoder's largest, and of a prompt all its rows but one are thrown away.
"""

from typing import Any

import numpy as np

from ...evaluation.inputs import LOGITS_TO_KEEP as NAME


def let_choose(model: Any) -> None:
    """Let an OnnxModel be asked for the logits of the last tokens alone.

    `logits_to_keep`, int64 (1,), is their number as in transformers; 0, or an input that is not given, stands for all.
    An initializer that is an input, too, is ONNX's input with a default: who does not know it need not give it.
    """
    import onnx

    head = model.output_name_to_node()["logits"]
    hidden, start, end, axis = head.input[0], f"{NAME}_start", f"{NAME}_end", f"{NAME}_axis"
    for name, value in ((NAME, 0), (end, np.iinfo(np.int64).max), (axis, 1)):
        model.add_initializer(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    model.model.graph.input.append(onnx.helper.make_tensor_value_info(NAME, onnx.TensorProto.INT64, [1]))
    kept = f"{hidden}_kept"
    model.add_node(onnx.helper.make_node("Neg", [NAME], [start], name=start))
    model.add_node(onnx.helper.make_node("Slice", [hidden, start, end, axis], [kept], name=kept))
    head.input[0] = kept
    model.topological_sort()

"""Lower precision from a fused fp32 graph."""

import logging
from pathlib import Path


def dynamic_int8(source: Path, target: Path, *, reduce_range: bool) -> None:
    """Write `source` with int8 weights, per channel, and activations quantised as they come, to `target`.

    reduce_range: 7-bit weights, for CPUs without VNNI, whose 16-bit sums of U8S8 products saturate.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its advice to pre-process is for unfused graphs.
    logging.getLogger().addFilter(_no_preprocessing_advice)
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # Contrib operators have no shape inference, so the type of their outputs has to be told.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().removeFilter(_no_preprocessing_advice)


def _no_preprocessing_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()

"""What options choose from, by name."""

from typing import Literal

Role = Literal["query", "key", "value", "attention_output", "ffn_in", "ffn_gate", "ffn_out"]
Precision = Literal["fp32", "fp16", "int8", "int8_static", "int4"]
Graph = Literal["fused", "portable"]
LayoutName = Literal["optimum", "transformers.js", "sentence-transformers"]
Decomposition = Literal["grebsmo", "magnitude", "random", "svd"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
Criterion = Literal["auto", "delta", "combined", "magnitude", "slimming", "taylor", "random"]

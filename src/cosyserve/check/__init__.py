"""Whether an engine of TensorRT-LLM does here what it should: `cosyserve engines check`."""

"""Builds an engine with the TensorRT-LLM that is installed: a program of its own, run on a rung of the launch ladder.

Importing TensorRT-LLM may hang, and a build that is told to stop must end. Nothing is decided here; every name that is
used is in tests/cosyvoice/trtllm/contract.json.
"""

import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel

from cosyserve.host import libpython
from cosyserve.launch.worker import carry_out
from cosyserve.store.engines import Shape

_BLOCK = 32  # positions of a block of the paged cache of keys and values


class Work(BaseModel):
    exported: Path
    into: Path
    shape: Shape


def build(work: Work) -> None:
    """From the exported model to `rank0.engine` and `config.json`. No checkpoint is written in between."""
    libpython.load()
    from tensorrt_llm import builder
    from tensorrt_llm.models.qwen.model import QWenForCausalLM

    shape = work.shape
    model = QWenForCausalLM.from_hugging_face(str(work.exported), dtype=shape.dtype)
    with tempfile.TemporaryDirectory(dir=work.into) as scratch:
        config = builder.BuildConfig(
            max_input_len=shape.max_seq,
            max_seq_len=shape.max_seq,
            max_batch_size=shape.max_batch,
            max_num_tokens=shape.max_tokens,
            max_beam_width=1,
            # It is always written, by default into the working folder, which may be anybody's.
            output_timing_cache=str(Path(scratch) / "timing.cache"),
        )
        config.plugin_config.gemm_plugin = shape.dtype
        config.plugin_config.paged_kv_cache = True
        config.plugin_config.tokens_per_block = _BLOCK
        engine = builder.build(model, config)
    engine.save(str(work.into))


if __name__ == "__main__":
    carry_out(lambda: build(Work.model_validate_json(sys.argv[1])))

"""The adapter to TensorRT-LLM's C++ executor, in this process. It decides nothing.

tests/cosyvoice/trtllm/contract.json has every name that it uses, with its place in TensorRT-LLM's source.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosyserve.cosyvoice.engine.batching import Answer, Ask

_RANDOM_SEEDS = 1 << 64


# Of the memory that is free once the engine is loaded. `max_tokens` bounds the cache of keys and values below that.
_KV_SHARE = 0.9


class TrtllmExecutor:
    """One engine on the current CUDA device; `bias` (vocabulary,) is added to the scores of every step."""

    def __init__(self, engine: Path, bias: Tensor, slots: int, kv_tokens: int) -> None:
        from tensorrt_llm.bindings import executor

        self._api = executor
        # The engine's scores are float32, and it takes a bias in no other type.
        self._bias = bias.to(dtype=torch.float32, device="cpu").contiguous()
        cache = executor.KvCacheConfig(
            enable_block_reuse=False,
            max_tokens=kv_tokens,
            free_gpu_memory_fraction=_KV_SHARE,
            host_cache_size=0,  # pinned memory is scarce on WSL2
        )
        config = executor.ExecutorConfig(
            max_beam_width=1,
            kv_cache_config=cache,
            batching_type=executor.BatchingType.INFLIGHT,
            max_batch_size=slots,
        )
        self._executor: Any = executor.Executor(engine, executor.ModelType.DECODER_ONLY, config)

    def submit(self, ask: Ask) -> int:
        api, drawing = self._api, ask.drawing
        sampling = api.SamplingConfig(
            beam_width=1,
            top_k=1 if ask.temperature == 0 else drawing.top_k,
            top_p=drawing.top_p,
            seed=ask.seed % _RANDOM_SEEDS,
            temperature=ask.temperature or 1.0,
            min_tokens=ask.least,
            repetition_penalty=drawing.repetition,
        )
        request = api.Request(
            list(ask.prompt),
            ask.most,
            streaming=True,
            sampling_config=sampling,
            output_config=api.OutputConfig(exclude_input_from_output=True),
            end_id=ask.end,
            pad_id=ask.end,
            embedding_bias=self._bias,
        )
        return int(self._executor.enqueue_request(request))

    def collect(self, seconds: float) -> list[Answer]:
        return [_answer(each) for each in self._executor.await_responses(timeout=timedelta(seconds=seconds))]

    def cancel(self, number: int) -> None:
        self._executor.cancel_request(number)

    def close(self) -> None:
        self._executor.shutdown()


def _answer(response: Any) -> Answer:
    if response.has_error():
        return Answer(response.request_id, (), final=True, error=response.error_msg or "no reason given")
    ids: Sequence[int] = response.result.output_token_ids[0]
    return Answer(response.request_id, ids, final=response.result.is_final)

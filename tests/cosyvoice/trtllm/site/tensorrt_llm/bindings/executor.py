"""The stand-in's executor: a thread that gives each request a token a step, all of them side by side.

Tokens are drawn from the request's seed, within the speech tokens that its bias allows, until its own length. What goes
wrong is told by the engine's folder: `behaviour.json` there, read at the start.
"""

import json
import os
import random
import threading
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.loading import load_config, load_llm
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.request import Request as GenerationRequest
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.trtllm import driver
from tests.cosyvoice.trtllm.contract import CONTRACT, bound, made, made_enum

_HERE = "tensorrt_llm.bindings.executor"
ModelType = made_enum(f"{_HERE}.ModelType")
BatchingType = made_enum(f"{_HERE}.BatchingType")
SamplingConfig = made(f"{_HERE}.SamplingConfig")
OutputConfig = made(f"{_HERE}.OutputConfig")
KvCacheConfig = made(f"{_HERE}.KvCacheConfig")
ExecutorConfig = made(f"{_HERE}.ExecutorConfig")


class Request(made(f"{_HERE}.Request")):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.max_tokens <= 0:
            raise RuntimeError("Assertion failed: mMaxNewTokens > 0")


_NEVER = -5000  # a bias below that is a mask
_STEP_SECONDS = 0.0005


class Result:
    def __init__(self, ids: list[int], *, final: bool) -> None:
        self.output_token_ids, self.is_final = [ids], final


class Response:
    def __init__(self, request_id: int, result: Result | None, error_msg: str = "") -> None:
        self.request_id, self._result, self.error_msg = request_id, result, error_msg

    def has_error(self) -> bool:
        return self._result is None

    @property
    def result(self) -> Result:
        if self._result is None:
            raise RuntimeError("Result may not be accessed where there is an error")
        return self._result


class _Running:
    def __init__(self, request: Any, behaviour: dict[str, Any], number: int) -> None:
        sampling = request.sampling_config
        self.request, self.random = request, random.Random(sampling.seed)
        if behaviour.get("unseeded", 0):
            self.random = random.Random(number)
        self.allowed = (request.embedding_bias > _NEVER).nonzero()[:, 0].tolist()
        self.length = min(request.max_tokens, sampling.min_tokens + self.random.randrange(3, 20))
        self.length = behaviour.get("length", self.length)
        greedy = _greedy(request, behaviour, number) if sampling.top_k == 1 else []
        self.greedy, self.length = iter(greedy), len(greedy) or self.length
        self.made = 0
        self.strays = self.random.random() < behaviour.get("strays", 0)
        self.fails_at = 5 if self.random.random() < behaviour.get("fails", 0) else -1
        self.stops = self.random.random() < behaviour.get("stops", 0)

    def step(self) -> tuple[list[int], bool, str]:
        """New ids, whether they are the last, and what went wrong."""
        if self.made == self.fails_at:
            return [], True, "the stand-in was told to fail this one"
        self.made += 1
        if self.made > self.length:
            return [self.request.end_id], True, ""
        if (token := next(self.greedy, None)) is not None:
            return [token], False, ""
        # Before the fewest tokens the end is held back, and it alone; whatever else is allowed may come.
        speech = [each for each in self.allowed if each < self.request.end_id]
        if self.stops:
            speech = [each for each in self.allowed if each > self.request.end_id] or speech
        ids = [speech[self.random.randrange(len(speech))]]
        if self.strays and self.made == 3:
            ids.append(7)  # no speech at all, whatever the bias says
        return ids, False, ""


def _greedy(request: Any, behaviour: dict[str, Any], number: int) -> list[int]:
    """The likeliest tokens of the model in COSYSERVE_MODELS_DIR, which is the one that was exported."""
    text_ids = request.end_id - SPEECH_TOKENS
    vocabulary = Vocabulary(text_ids)
    ids = request.input_token_ids[1 : request.input_token_ids.index(vocabulary.task)]
    folder = Path(os.environ["COSYSERVE_MODELS_DIR"]) / MODEL_FOLDER
    generator = Generator(load_llm(folder, load_config(folder), torch.bfloat16), 1, 512)
    nothing = torch.empty(0, dtype=torch.long)
    slot = generator.add(GenerationRequest(torch.tensor(ids), nothing, nothing, temperature=0.0))
    tokens: list[int] = []
    while not slot.done and len(tokens) < 20:
        tokens += [token for _, token in generator.advance()]
    if (wrong := behaviour.get("greedy_wrong_from")) is not None:
        tokens[wrong:] = [each + 1 for each in tokens[wrong:]]
    if behaviour.get("greedy_unsteady"):
        tokens[-1] += number
    return [text_ids + token for token in tokens]


class Executor:
    """See the contract."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        path = f"{_HERE}.Executor"
        taken = bound(path, CONTRACT["classes"][path]["positional"], {}, args, kwargs)
        folder: Path = taken["model_path"]
        plan = (folder / "rank0.engine").read_bytes()
        if not plan.startswith(b"stand-in"):
            raise RuntimeError("expecting compute 8.6 got compute 8.0, please rebuild")
        file = folder / "behaviour.json"
        shape = folder / "config.json"
        asked = json.loads(shape.read_text()).get("asked", {}) if shape.exists() else {}
        self._longest = asked.get("max_input_len", 1 << 20)
        self._behaviour: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self._step_seconds = self._behaviour.get("step_seconds", _STEP_SECONDS)
        if self._behaviour.get("takes_all"):
            self._longest = 1 << 20
        self.config = taken["executor_config"]
        self._running: dict[int, _Running] = {}
        self._waiting: deque[tuple[int, _Running]] = deque()
        self._ready: list[Response] = []
        self._changed = threading.Condition()
        self._next, self._steps, self._stopped = 1, 0, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def enqueue_request(self, *args: Any, **kwargs: Any) -> int:
        request = self._taken("enqueue_request", args, kwargs)["request"]
        if request.embedding_bias is not None and request.embedding_bias.dtype != torch.float32:
            raise RuntimeError("Embedding bias data type must be same as model logits type.")
        if not request.streaming or not request.output_config.exclude_input_from_output:
            raise RuntimeError("the stand-in only streams, without the prompt")
        with self._changed:
            number, self._next = self._next, self._next + 1
            self._waiting.append((number, _Running(request, self._behaviour, number)))
            self._changed.notify_all()
            return number

    def await_responses(self, *args: Any, **kwargs: Any) -> list[Response]:
        timeout: timedelta | None = self._taken("await_responses", args, kwargs)["timeout"]
        with self._changed:
            if self._stopped:
                raise RuntimeError("Cannot get responses after shutdown")
            self._changed.wait_for(lambda: self._ready, None if timeout is None else timeout.total_seconds())
            ready, self._ready = self._ready, []
            return ready

    def cancel_request(self, *args: Any, **kwargs: Any) -> None:
        number = self._taken("cancel_request", args, kwargs)["id"]
        with self._changed:
            if self._behaviour.get("deaf"):
                return
            if self._running.pop(number, None) is not None:
                self._ready.append(Response(number, Result([], final=True)))
            self._waiting = deque(each for each in self._waiting if each[0] != number)
            self._changed.notify_all()

    def shutdown(self) -> None:
        """Runs what is inside to its end, unless it was cancelled."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def requests(self) -> int:
        """Not TensorRT-LLM's: how many requests are inside."""
        with self._changed:
            return len(self._running) + len(self._waiting)

    @property
    def steps(self) -> int:
        """Not TensorRT-LLM's either."""
        return self._steps

    def _taken(self, method: str, args: Any, kwargs: Any) -> dict[str, Any]:
        path = f"{_HERE}.Executor"
        return bound(f"{path}.{method}", CONTRACT["classes"][path]["methods"][method], {}, args, kwargs)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._running or self._waiting)
                if self._stopped and not self._running and not self._waiting:
                    return
                self._fetch()
                try:
                    self._forward()
                except Exception as error:  # all that is active fails with it, and the loop goes on
                    text = f"Encountered an error in forwardAsync function: {error}"
                    self._ready += [Response(number, None, text) for number in self._running]
                    self._running.clear()
                self._steps += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: False, self._step_seconds)

    def _fetch(self) -> None:
        while self._waiting and len(self._running) < self.config.max_batch_size:
            number, running = self._waiting.popleft()
            if (length := len(running.request.input_token_ids)) > self._longest:
                why = f"Prompt length ({length}) exceeds maximum input length ({self._longest})"
                text = f"Encountered an error when fetching new request: {why}"
                self._ready.append(Response(number, None, text))
                continue
            self._running[number] = running

    def _forward(self) -> None:
        driver.synchronise()
        if 0 < self._behaviour.get("breaks_after", 0) <= self._steps:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        for number, running in list(self._running.items()):
            ids, final, error = running.step()
            self._ready.append(Response(number, None, error) if error else Response(number, Result(ids, final=final)))
            if final:
                del self._running[number]

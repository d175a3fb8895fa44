"""Compile what a card would run, without a card: every launch of the released size, for each compute capability.

    python -m tests.cosyvoice.kernels.compiled [CAPABILITY…]

prints a line of JSON for each kernel: shared memory in bytes, and registers and stack of a thread, by ptxas.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME, Config, Config3
from cosyserve.cosyvoice.model.flow import DitFlow, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.fused_batch import FusedBatch
from cosyserve.cosyvoice.runtime.fused_dit import FusedDit
from cosyserve.cosyvoice.runtime.fused_estimator import FusedEstimator
from cosyserve.cosyvoice.runtime.fused_hift import FusedHift
from cosyserve.cosyvoice.runtime.generation import PIECE, Generator
from cosyserve.cosyvoice.runtime.prefill import PROMPTS, KernelPrefill, Piece

WIDTHS = (1, 4, 16)
CAPABILITIES = (80, 86, 89, 90)
_POSITIONS = 2048
_TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64", torch.int32: "*i32"}
_TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True)
class Launch:
    """A kernel with what it is compiled for."""

    kernel: Any
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    divisible: tuple[int, ...]  # arguments that are multiples of 16, which decides how memory is read
    options: tuple[tuple[str, int], ...]

    def compile(self, capability: int) -> Any:
        attributes = {(number,): [["tt.divisibility", 16]] for number in self.divisible}
        constants = {**dict(self.constants), "DEPENDENT": capability >= 90}
        source = ASTSource(self.kernel, dict(self.signature), constants, attributes)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(self.options))


def launch_of(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Launch:
    names, unspecialized = kernel.arg_names, {each.name for each in kernel.params if each.do_not_specialize}
    values = {**dict(zip(names, arguments, strict=False)), **{k: v for k, v in options.items() if k in names}}
    signature, constants, divisible = [], [], []
    for number, name in enumerate(names):
        value = values[name]
        if isinstance(value, Tensor):
            signature.append((name, _TYPES[value.dtype]))
            if name not in unspecialized:
                divisible.append(number)  # what PyTorch allocates, and every view of it here
        elif name in unspecialized:
            signature.append((name, "i32"))
        elif name.isupper() or (value == 1 and isinstance(value, int)):
            signature.append((name, "constexpr"))
            constants.append((name, value))
        else:
            signature.append((name, "fp32" if isinstance(value, float) else "i32"))
            if isinstance(value, int) and value % 16 == 0:
                divisible.append(number)
    others = tuple((k, v) for k, v in options.items() if k.startswith("num_"))
    return Launch(kernel, tuple(signature), tuple(constants), tuple(divisible), others)


def launches(work: Callable[[], object]) -> list[Launch]:
    """What `work` launches, each once. Nothing of it runs."""
    found: dict[Launch, None] = {}

    def record(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found[launch_of(kernel, arguments, options)] = None

    with patch.object(JITFunction, "run", record):
        work()
    return list(found)


def estimator(width: int) -> Callable[[], object]:
    """A step of the flow's estimator for so many chunks."""
    flow = Flow(replace(Config().flow, steps=1)).to(torch.bfloat16)
    memory, rows = FlowMemory(flow, width, pages=1, width=width), BatchRows(width, 16, torch.device("cpu"))
    return _moves(FusedEstimator(flow, memory, width, 16, Kernels())(rows), width)


def dit(width: int) -> Callable[[], object]:
    """A step of CosyVoice3's, with one of its 22 transformers."""
    sizes = Config3().flow
    flow = DitFlow(replace(sizes, steps=1, estimator=replace(sizes.estimator, blocks=1))).to(torch.bfloat16)
    memory, rows = FlowMemory(flow, width, pages=1, width=width), BatchRows(width, 16, torch.device("cpu"))
    return _moves(FusedDit(flow, memory, width, 16, Kernels())(rows), width)


def _moves(fused: FusedBatch, width: int) -> Callable[[], object]:
    chunk = torch.zeros(width, MELS, CHUNK)
    halved = chunk.to(torch.bfloat16)
    moves = fused.moves(chunk, halved, halved[:, :, 0], halved, chunk)
    return torch.inference_mode()(lambda: [move() for move in moves])


def generator_of(slots: int) -> Generator:
    """With one layer of its 24."""
    llm = Llm(replace(Config().llm, layers=1, vocabulary=1)).to(torch.bfloat16)
    return Generator(llm, slots, _POSITIONS, kernels=Kernels())


def decoder(slots: int) -> Callable[[], object]:
    """A step of the language model for so many slots."""
    generator = generator_of(slots)
    return lambda: generator._steps.step(slots)


def prompts(count: int) -> Callable[[], object]:
    """Pieces of so many prompts."""
    llm = Llm(replace(Config().llm, layers=1, vocabulary=1)).to(torch.bfloat16)
    prefill = KernelPrefill(llm, _POSITIONS, PIECE, None, Kernels())
    rows = torch.zeros(PIECE, llm.config.hidden, dtype=torch.bfloat16)
    return lambda: prefill.read([Piece(rows, slot, 0, 0) for slot in range(count)])


def vocoder(streams: int) -> Callable[[], object]:
    """Its convolutions, for a second of so many streams."""
    hift = Hift(Config().hift)
    fused = FusedHift(hift, Kernels())
    mel, begin = torch.zeros(streams, MELS, CHUNK), torch.zeros(streams, 1, dtype=torch.long)
    source = torch.zeros(streams, 1, SAMPLES_PER_FRAME * CHUNK)
    return lambda: fused(mel, source, begin)


def usage(cubin: bytes) -> tuple[int, int]:
    """Registers, and bytes of the stack, of a thread. What registers have no room for is spilled there."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([_TOOL, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", text.stdout)
    assert found is not None, text.stdout
    return int(found[1]), int(found[2])


def report(capabilities: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    seen: set[Launch] = set()
    for width in WIDTHS:
        works = [estimator(width), decoder(width), prompts(min(width, PROMPTS))]
        if width in (WIDTHS[0], WIDTHS[-1]):  # these have two sets of tiles
            works += [dit(width), vocoder(width)]
        for launch in {launch for work in works for launch in launches(work)} - seen:
            seen.add(launch)
            for capability in capabilities:
                made = launch.compile(capability)
                registers, stack = usage(made.asm["cubin"])
                yield {
                    "kernel": launch.kernel.__name__,
                    "width": width,
                    "capability": capability,
                    "shared": made.metadata.shared,
                    "registers": registers,
                    "stack": stack,
                    **{name: value for name, value in launch.constants if name.isupper()},
                }


if __name__ == "__main__":
    with torch.inference_mode():
        for line in report(tuple(map(int, sys.argv[1:])) or CAPABILITIES):
            print(json.dumps(line), flush=True)

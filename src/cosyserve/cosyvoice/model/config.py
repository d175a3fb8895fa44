"""The sizes of the model. The defaults are the released CosyVoice2-0.5B; tests use smaller ones."""

from dataclasses import dataclass, field, replace

SAMPLE_RATE = 24_000
MELS = 80
SPEECH_TOKENS = 6561  # finite scalar quantisation, 3 to the power of 8
STOP_TOKENS = (6561, 6562, 6563)  # CosyVoice2's: end, and two more that end an utterance all the same
TOKENS_PER_SECOND = 25
FRAMES_PER_TOKEN = 2  # 50 mel frames a second
SAMPLES_PER_FRAME = 480
CHUNK_TOKENS = 25  # what the streaming mask lets see itself: one second
LOOK_AHEAD = 3  # tokens that the encoder sees beyond the last one it finishes
LONGEST_SECONDS = 300  # of an utterance, its recording included: as far as the flow's noise goes
NOISE_FRAMES = LONGEST_SECONDS * TOKENS_PER_SECOND * FRAMES_PER_TOKEN


@dataclass(frozen=True)
class LlmConfig:
    """Qwen2 with a head for speech and embeddings of speech tokens. Their last rows are marks: those that end an
    utterance, and those that begin it and its speech, unless `marks` says that these have a table of their own."""

    hidden: int = 896
    feed_forward: int = 4864
    layers: int = 24
    heads: int = 14
    kv_heads: int = 2
    vocabulary: int = 151_936
    rope_theta: float = 1e6
    epsilon: float = 1e-6
    speech_rows: int = 6564
    marks: bool = True  # CosyVoice2's: an embedding of their own, and a bias of the head

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def stops(self) -> range:
        """The rows that end an utterance."""
        return range(SPEECH_TOKENS, self.speech_rows)


@dataclass(frozen=True)
class EncoderConfig:
    """The conformer that turns speech tokens into the mean of the mel."""

    width: int = 512
    heads: int = 8
    feed_forward: int = 2048
    blocks: int = 6  # before the upsampling
    up_blocks: int = 4  # after it


@dataclass(frozen=True)
class EstimatorConfig:
    """The U-Net that estimates the flow. It has one level, so nothing is downsampled."""

    channels: int = 256
    head_dim: int = 64
    heads: int = 8
    transformers: int = 4  # in each block
    mid_blocks: int = 12

    @property
    def kept(self) -> int:
        """Values of a frame that all its attentions keep: keys and values."""
        return self.transformers * (self.mid_blocks + 2) * 2 * self.heads * self.head_dim


@dataclass(frozen=True)
class DitConfig:
    """The transformer that estimates CosyVoice3's flow."""

    width: int = 1024
    blocks: int = 22
    heads: int = 16
    head_dim: int = 64
    feed_forward: int = 2  # times the width
    look_ahead: int = 1024  # channels between the two convolutions before it

    @property
    def kept(self) -> int:
        """Values of a frame that all its attentions keep: keys and values."""
        return self.blocks * 2 * self.heads * self.head_dim


@dataclass(frozen=True)
class FlowConfig:
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    speaker: int = 192  # CAM++'s embedding
    steps: int = 10  # of Euler's method
    guidance: float = 0.7  # classifier-free

    def remembered(self, chunks: int) -> int:
        """Values that the encoder keeps of a stream of so many chunks: keys and values of every layer, and the
        convolutions' last frames."""
        positions = chunks * CHUNK_TOKENS * (self.encoder.blocks + FRAMES_PER_TOKEN * self.encoder.up_blocks)
        return (2 * positions + 2 + 2 * FRAMES_PER_TOKEN) * self.encoder.width


@dataclass(frozen=True)
class DitFlowConfig:
    """CosyVoice3's flow: no encoder but the look-ahead."""

    estimator: DitConfig = field(default_factory=DitConfig)
    speaker: int = 192  # CAM++'s embedding
    steps: int = 10  # of Euler's method
    guidance: float = 0.7  # classifier-free

    def remembered(self, chunks: int) -> int:
        """Values that the look-ahead keeps of a stream, however long: its convolution's last frames."""
        return 2 * self.estimator.look_ahead


@dataclass(frozen=True)
class HiftConfig:
    """The vocoder: harmonic source, transposed convolutions, inverse short-time Fourier transform."""

    channels: int = 512
    f0_channels: int = 512
    up_rates: tuple[int, ...] = (8, 5, 3)
    up_kernels: tuple[int, ...] = (16, 11, 7)
    kernels: tuple[int, ...] = (3, 7, 11)
    source_kernels: tuple[int, ...] = (7, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    fft: int = 16
    hop: int = 4
    harmonics: int = 8


@dataclass(frozen=True)
class Config:
    llm: LlmConfig = field(default_factory=LlmConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    hift: HiftConfig = field(default_factory=HiftConfig)


@dataclass(frozen=True)
class Config3:
    """CosyVoice3's."""

    llm: LlmConfig = field(default_factory=lambda: LlmConfig(speech_rows=6761, marks=False))
    flow: DitFlowConfig = field(default_factory=DitFlowConfig)
    hift: HiftConfig = field(default_factory=HiftConfig)


Sizes = Config | Config3
"""Those of either edition."""
RELEASED: dict[str, Sizes] = {"cosyvoice2": Config(), "cosyvoice3": Config3()}


def with_steps(sizes: Sizes, steps: int) -> Sizes:
    """The same with so many Euler steps."""
    if isinstance(sizes, Config3):
        return replace(sizes, flow=replace(sizes.flow, steps=steps))
    return replace(sizes, flow=replace(sizes.flow, steps=steps))

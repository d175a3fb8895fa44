"""What was seen in the processes that tried something; they hand it on as JSON."""

from pathlib import Path

from pydantic import BaseModel

# What the executor is asked.
TEXT_IDS = 10
TOO_LONG = 3000  # ids of a prompt
CANCEL_AFTER = 15  # tokens
COMPARED = 10  # tokens


class Work(BaseModel):
    """Which engine is asked alone, and the file that has what it answered."""

    model: Path
    name: str  # of the model
    engine: Path
    into: Path


class Libraries(BaseModel):
    """For each library why it does not load, empty where it does."""

    problems: dict[str, str]


class Pytorch(BaseModel):
    version: str
    cuda: str  # that it was built for, empty where for none
    card: str  # the first that it sees


class Imported(BaseModel):
    """What `import tensorrt_llm` has mapped into its process."""

    version: str
    libmpi: list[str]
    cuda: list[int]  # majors


class Greedy(BaseModel):
    """The first tokens of the most likely ones, by both."""

    engine: list[int]
    pytorch: list[int]


class Executed(BaseModel):
    """What the executor answered."""

    seconds: float  # until it was loaded
    length: int
    seeded: list[list[int]]  # the same request twice, with one seed
    strays: int  # ids that are neither speech nor a stop
    greedy: list[list[int]]  # the same request twice
    refusal: str  # of a prompt that is too long
    after_refusal: int  # tokens of the next request
    cancelled: int  # tokens of a request that was cancelled after 15
    against_pytorch: Greedy


class Spoken(BaseModel):
    """What came of as many requests at once as there are streams."""

    why: str  # who speaks, as the server says it
    failed: list[str]
    capturing: int  # lines of the log on a capture that was disturbed
    first_ms: float  # median
    times_real_time: float

"""Every failure a user can meet: a stable id, its cause and its remedy, in English and Chinese.

`docs/errors.md` is generated from this catalogue. An id is never reused for something else.
"""

from cosyserve.errors.asking import *  # noqa: F403
from cosyserve.errors.assets import *  # noqa: F403
from cosyserve.errors.captions import *  # noqa: F403
from cosyserve.errors.deploying import *  # noqa: F403
from cosyserve.errors.fault import CosyError as CosyError
from cosyserve.errors.fault import Fault as Fault
from cosyserve.errors.long_texts import *  # noqa: F403
from cosyserve.errors.permitting import *  # noqa: F403
from cosyserve.errors.pronouncing import *  # noqa: F403
from cosyserve.errors.requests import *  # noqa: F403
from cosyserve.errors.running import *  # noqa: F403
from cosyserve.errors.wyoming import *  # noqa: F403

CATALOGUE: tuple[Fault, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Fault))

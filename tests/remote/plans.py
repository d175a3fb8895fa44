"""What `--plan` prints for instances as they were described; `python -m tests.remote.plans` writes it anew."""

from pathlib import Path

from cosyserve.errors import CosyError
from cosyserve.remote import survey
from cosyserve.remote.bundle import Bundle
from cosyserve.remote.plan import Options, as_text, plan
from cosyserve.remote.suitability import choose_flavour, refuse

RECORDED = Path(__file__).parent / "recorded"
PLANS = Path(__file__).parent / "plans"
NOW = 1_795_600_030  # half a minute after the surveys

# Beside the surveys with nothing asked for: one survey with everything asked for.
ASKED = {
    "autodl-gpu-asked": (
        "autodl-gpu",
        Options(
            *("/root/autodl-tmp/the server's", "slim", 7000, True, 30),
            indexes=("https://mirror.example/simple",),
            torch_index="https://mirror.example/whl/cu128",
        ),
    ),
    "autodl-public-again": ("autodl-public", Options(idle_minutes=0)),
    "ubuntu-elsewhere": ("ubuntu", Options("/srv/cosyserve", public=True)),
}
CASES = {**{path.stem: (path.stem, Options()) for path in sorted(RECORDED.glob("*.txt"))}, **ASKED}


def text_of(case: str) -> str:
    name, options = CASES[case]
    try:
        instance = survey.parse((RECORDED / f"{name}.txt").read_text())
        refuse(instance, options.folder, NOW)
        chosen, why = choose_flavour(instance)
        bundle = Bundle("1.2.3-0123456789", options.flavour or chosen, b"a release" * 50_000, 42)
        return as_text(plan(instance, bundle, options, why))
    except CosyError as error:
        return f"{error}\n"


if __name__ == "__main__":
    for case in CASES:
        (PLANS / f"{case}.txt").write_text(text_of(case))

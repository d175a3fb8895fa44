"""Writes docs/settings.md, docs/errors.md and the table of bench/README.md; `tests/test_docs.py` holds them equal."""

import json
import re
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr

from cosyserve.errors import CATALOGUE
from cosyserve.host.report import Report
from cosyserve.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))
from bench.common.index import table  # noqa: E402

_SETTINGS_HEAD = """\
# Settings

<!-- Generated from src/cosyserve/settings.py by `make docs`. -->

Set each as an environment variable, or as a line in `.env` in the folder from which you start the server; the
environment wins. Every secret also has a setting ending in `_FILE`, which names a file to read it from. At start the
server warns about names that begin with `COSYSERVE_` and are not in this list, and suggests the nearest real one.

| setting | default | what it does |
| --- | --- | --- |
"""

_ERRORS_HEAD = """\
# Errors · 错误

<!-- Generated from src/cosyserve/errors/ by `make docs`. -->

Every failure has an id that never changes its meaning. In the API it is `error.code`; in a terminal it stands
first. Parts in `{braces}` are filled in. In a clone the command is `.venv/bin/cosyserve`.

每种错误都有一个含义不变的编号：在 API 中是 `error.code`，在终端中位于最前。`{花括号}` 中的内容会被具体值替换。
在克隆的仓库中，命令为 `.venv/bin/cosyserve`。
"""


def settings_page() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        default = f"`{value}`" if value not in ("", None) else "empty"
        choices = ""
        if get_origin(field.annotation) is Literal:
            choices = " One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + "."
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description}{choices} |\n")
    return _SETTINGS_HEAD + "".join(rows)


def errors_page() -> str:
    entries = [
        f"\n## {fault.id}\n\n{fault.cause}\n→ {fault.remedy}\n\n{fault.cause_zh}\n→ {fault.remedy_zh}\n"
        for fault in sorted(CATALOGUE, key=lambda fault: fault.id)
    ]
    return _ERRORS_HEAD + "".join(entries).replace("{cosyserve}", "cosyserve")


def doctor_schema() -> str:
    return json.dumps(Report.model_json_schema(), indent=2, sort_keys=True) + "\n"


def benchmarks_page() -> str:
    """As it is, with the table as it would be written now."""
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- BEGIN.*? -->\n).*(<!-- END -->)", lambda marks: marks[1] + table() + marks[2], text, flags=re.S
    )


PAGES = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "doctor.schema.json": doctor_schema,
    "../bench/README.md": benchmarks_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

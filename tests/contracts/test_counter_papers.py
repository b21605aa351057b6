"""The walk of docs/counters.md works as it is written."""

import asyncio
import re
from pathlib import Path

from api.client import Api

PAPER = Path(__file__).parents[2] / "docs" / "counters.md"
SHIPPED = "http://127.0.0.1:8080"
MESSAGE = "Your social security card has been activated"


async def test_the_walk_of_the_counters_works_as_it_is_written(api: Api) -> None:
    paper = PAPER.read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```$", paper, re.MULTILINE | re.DOTALL))
    assert script.count(SHIPPED) == 1
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script.replace(SHIPPED, api.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaints = await shell.communicate()
    assert (shell.returncode, complaints) == (0, b"")
    lines = [line for line in said.decode().splitlines() if line]
    assert lines[-1] == MESSAGE
    assert f"`{MESSAGE}`" in paper
    # Signed in, looked up, and activated three times; the fourth answer is the message.
    assert [line.count('"status"') for line in lines if '"code"' in line and '"title"' in line] == []
    assert sum('"result":"activated"' in line for line in lines) == 3

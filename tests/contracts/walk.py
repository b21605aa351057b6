"""The commands of a paper, run as they stand there."""

import asyncio
import re

SHIPPED = "http://127.0.0.1:8080"


def blocks(text: str, language: str) -> list[str]:
    """What stands in the fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


async def walked(text: str, url: str) -> list[str]:
    """The lines that the shell blocks of a text print, at another address than the one they name once."""
    script = "\n".join(blocks(text, "bash"))
    assert script.count(SHIPPED) == 1
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script.replace(SHIPPED, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaints = await shell.communicate()
    assert (shell.returncode, complaints) == (0, b"")
    return [line for line in said.decode().splitlines() if line]

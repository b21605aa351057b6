"""The verifiers of docs/receipts.md, run as they stand there: they take our receipts and nothing else."""

import asyncio
import base64
import json
import shutil
import sys
from pathlib import Path

import jwt
import orjson
import pytest
from api.client import Api
from contracts.walk import blocks
from cryptography.hazmat.primitives.asymmetric import ec

PAPER = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")
PROGRAMS = {"python": ("verify.py", sys.executable), "js": ("verify.mjs", shutil.which("node") or "")}
ISSUER = "https://yika.example"


async def said(folder: Path, language: str, issuer: str, receipt: str) -> tuple[int, bytes]:
    """What a verifier of the paper ends with, and prints."""
    name, program = PROGRAMS[language]
    (code,) = blocks(PAPER, language)
    (folder / name).write_text(code, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(program, str(folder / name), str(folder / "keys.json"), issuer, receipt),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return process.returncode or 0, out


@pytest.mark.parametrize("language", PROGRAMS)
async def test_the_verifier_of_the_paper_takes_ours_and_nothing_else(api: Api, tmp_path: Path, language: str) -> None:
    if not PROGRAMS[language][1]:
        pytest.skip("there is no such program on this machine")
    client = await api.sign_in("active")
    receipt = (await client.get("/v1/receipts")).json["items"][0]["receipt"]
    keys = (await api.get("/.well-known/jwks.json")).raw
    (tmp_path / "keys.json").write_bytes(keys)
    status, out = await said(tmp_path, language, ISSUER, receipt)
    checked = (await api.post("/v1/receipts/verify", {"receipt": receipt})).json
    assert (status, orjson.loads(out)) == (0, checked["claims"])
    for name, wrong in _wrong(receipt, client.token or "").items():
        status, out = await said(tmp_path, language, ISSUER, wrong)
        assert (status, out) == (1, b""), name
    assert await said(tmp_path, language, "https://other.example", receipt) == (1, b"")
    (tmp_path / "keys.json").write_text('{"keys": []}')
    assert await said(tmp_path, language, ISSUER, receipt) == (1, b"")


def _wrong(receipt: str, token: str) -> dict[str, str]:
    head, body, signature = receipt.split(".")
    header, claims = jwt.get_unverified_header(receipt), jwt.decode(receipt, options={"verify_signature": False})
    unsigned = base64.urlsafe_b64encode(json.dumps(header | {"alg": "none"}).encode()).rstrip(b"=").decode()
    stranger = ec.generate_private_key(ec.SECP256R1())
    return {
        "an access token": token,
        "padded": f"{receipt}==",
        "cut": receipt[:-4],
        "other claims": f"{head}.{body[:-4]}AAAA.{signature}",
        "unsigned": f"{unsigned}.{body}.",
        "a stranger's": jwt.encode(claims, stranger, algorithm="ES256", headers=header),
        "nonsense": "nonsense",
    }

"""An import as a real process that is killed, stopped and disturbed."""

import asyncio
import json
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.imports import DONE, FAILED, REJECTED, STOPPED, Places, children_of


async def test_an_import_that_is_killed_again_and_again_ends_as_if_nobody_had_touched_it(place: Places) -> None:
    whole, broken = place(), place()
    path = whole.file("rows.ndjson", 8000, spoil=700)
    assert whole.run("import", str(path), "--rejected", str(whole.folder / "whole")).returncode == REJECTED
    arguments = ("import", str(path), "--rejected", str(broken.folder / "broken"))
    moments = sorted(random.sample(range(100, 7500), 3))
    for moment in moments:
        async with broken.started(*arguments) as process:
            async with asyncio.timeout(60):
                while broken.raw["cards"].count_documents({}) < moment:
                    await asyncio.sleep(0.005)
            workers = children_of(process.pid)
            process.kill()
            await process.wait()
            async with asyncio.timeout(10):
                while any(Path(f"/proc/{pid}").exists() for pid in workers):
                    await asyncio.sleep(0.05)
    ended = broken.run(*arguments)
    assert ended.returncode == REJECTED, (moments, ended.stderr)
    assert broken.everything() == whole.everything(), moments
    assert (broken.folder / "broken").read_bytes() == (whole.folder / "whole").read_bytes(), moments
    lines = [json.loads(line)["line"] for line in (whole.folder / "whole").read_bytes().splitlines()]
    assert lines == [*range(700, 8001, 700)]


@pytest.mark.parametrize("group", [False, True])
async def test_an_import_that_is_told_to_stop_ends_at_a_batch_and_says_how_to_go_on(place: Places, *, group: bool) -> None:
    """A service manager signals every process of the group, a terminal too, an operator only one."""
    here = place()
    path = here.file("rows.ndjson", 30_000)
    async with here.started("import", str(path)) as process:
        await here.has_written()
        if group:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            said, complaints = await process.communicate()
    assert process.returncode == STOPPED, complaints
    assert b"the same command goes on from here" in said
    assert b"Traceback" not in complaints
    written = here.raw["imports"].find_one()
    assert written is not None
    assert 0 < written["line"] < 30_000
    # Nothing beyond what is counted, and no lock that anybody would have to wait for.
    assert len(here.everything()) == written["cardsAdded"] + written["peopleAdded"]
    ended = here.run("import", str(path))
    assert ended.returncode == DONE, ended.stderr
    assert "waiting" not in ended.stdout
    assert "30,000 cards added, 0 there already, 0 rows rejected" in ended.stdout


async def test_a_stopped_import_goes_on_only_in_the_file_that_it_was(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        await here.has_written()
        process.terminate()
        assert await process.wait() == STOPPED
    begun = here.raw["imports"].find_one()
    assert begun is not None
    content = path.read_bytes()
    # The same size and the same beginning; one row in the part that was read names somebody else's mobile.
    place_of_mobile = content.index(b'"mobile":"154', begun["offset"] - 1000 * 700) + len(b'"mobile":"154')
    path.write_bytes(content[:place_of_mobile] + b"00000000" + content[place_of_mobile + 8 :])
    ended = here.run("import", str(path))
    assert ended.returncode == DONE
    assert "another one than before" in ended.stdout
    assert "there already" in ended.stdout
    assert len([row for row in here.everything() if "number" in row]) == 12_000


async def test_who_takes_over_from_an_import_that_stood_still_is_not_disturbed_when_it_wakes(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        await here.has_written()
        process.send_signal(signal.SIGSTOP)
        same = await asyncio.to_thread(here.run, "import", str(path))
        assert (same.returncode, "another import is writing" in " ".join(same.stderr.split())) == (FAILED, True)
        # However long the other needs to come, the lease is not to be over before.
        lease = here.raw["imports"].find_one_and_update({}, {"$set": {"until": datetime.now(UTC) + timedelta(hours=1)}})
        assert lease is not None
        async with here.started("import", str(path), "--rejected", str(here.folder / "beside")) as other:
            assert other.stdout is not None
            async with asyncio.timeout(60):
                assert b"another process has this import" in await other.stdout.readuntil(b"waiting")
                here.raw["imports"].update_one({}, {"$set": {"until": lease["until"]}})
                _, complaints = await other.communicate()
        assert other.returncode == DONE, complaints
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            _, complaints = await process.communicate()
    assert (process.returncode, b"another process has gone on with this import" in b" ".join(complaints.split())) == (
        FAILED,
        True,
    )
    assert len([row for row in here.everything() if "number" in row]) == 12_000


async def test_an_import_whose_worker_was_killed_ends_in_words_and_goes_on(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        await here.has_written()
        os.kill(children_of(process.pid)[-1], signal.SIGKILL)
        async with asyncio.timeout(30):
            _, complaints = await process.communicate()
    assert process.returncode == FAILED
    assert b"a worker process ended by itself; run the command again to go on" in b" ".join(complaints.split())
    assert b"Traceback" not in complaints
    ended = here.run("import", str(path))
    assert (ended.returncode, "waiting" in ended.stdout) == (DONE, False), ended.stderr
    assert len([row for row in here.everything() if "number" in row]) == 12_000


# --- What it says ---

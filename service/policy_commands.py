"""The command line of policy packs: `python -m service policy …`.

True here: every fault of every pack is told at once, with file, field, line and reason, before a service is started with
them. Never here: a judgement of its own; what is said is what the start would say.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from service.matrix import matrix
from service.policies import ACTS
from service.regions import SHIPPED, PolicyError, Region, Regions
from service.terminal import configuration, err, out, stop

policy_command = typer.Typer(no_args_is_help=True, help="Policy packs: the rules of each region.")


_Folder = Annotated[
    Path | None, typer.Argument(help="Folder of the packs; without it that of YIKA_REGIONS_DIR, or the sandbox's.")
]


@policy_command.command()
def check(folder: _Folder = None) -> None:
    """Say everything that is wrong with the packs of a folder, with exit status 1, or what was checked."""
    regions = _load(_directory(folder))
    # Narrow enough for a terminal of 80 characters; `show` has the rest.
    heads = ("region", "version", "loss\ndays", "formal\nloss", "adult\nat", "PIN\ntries", "cut-off")
    table = Table(*(Column(head, no_wrap=True) for head in heads), "name")
    for region in regions:
        policy = region.policy
        table.add_row(
            region.code,
            str(policy.version),
            str(policy.temporary_loss_days),
            "revocable" if policy.formal_loss_cancellable else "final",
            str(policy.guardian_age),
            str(policy.service_pin.max_tries),
            " ".join(str(known.cut_off_on) for known in policy.generations if known.cut_off_on),
            f"{region.names.zh} {region.names.en}",
        )
    out.print(table)
    out.print(f"{len(regions.by_code)} in order in {_directory(folder)}", highlight=False, soft_wrap=True)


@policy_command.command()
def show(code: str, folder: _Folder = None) -> None:
    """Show the rules of one region."""
    region = _load(_directory(folder)).by_code.get(code)
    if region is None:
        stop(f"no such region: {code}")
    table = Table("rule", f"{region.code} {region.names.zh} {region.names.en}")
    for rule, told in _told(region):
        table.add_row(rule, told)
    out.print(table)


@policy_command.command("matrix")
def write_matrix(folder: _Folder = None) -> None:
    """Write what may be done with a card, in which state, by whom and through which channel, as a page in Markdown."""
    typer.echo(matrix(_load(_directory(folder))), nl=False)


def _directory(folder: Path | None) -> Path:
    return folder or configuration(environment="sandbox").regions_dir or SHIPPED


def _load(directory: Path) -> Regions:
    try:
        return Regions.load_directory(directory)
    except PolicyError as error:
        for objection in error.objections:
            err.print(str(objection), markup=False, highlight=False, soft_wrap=True)
        stop(f"{_counted(error)}; nothing starts with the packs in {directory}")


def _counted(error: PolicyError) -> str:
    faults, files = len(error.objections), len({objection.file for objection in error.objections})
    return f"{faults} fault{'s' * (faults > 1)} in {files} file{'s' * (files > 1)}"


def _told(region: Region) -> Iterator[tuple[str, str]]:
    """Every rule that a region decides, in words of the pack."""
    policy = region.policy
    yield "version", str(policy.version)
    yield "interconnected", "yes" if region.interconnected else "no"
    yield "banks", ", ".join(f"{bank.code} {bank.names.zh}" for bank in region.banks)
    yield "card_number", f"{policy.card_number.length} characters{', checked' * policy.card_number.check_character_enforced}"
    yield "card_validity_years", str(policy.card_validity_years)
    yield "temporary_loss_days", str(policy.temporary_loss_days)
    yield "figures_old_after_hours", str(policy.figures_old_after_hours)
    yield "service_pin", f"{policy.service_pin.initial_value}, {policy.service_pin.max_tries} tries"
    yield "guardian_age", str(policy.guardian_age)
    yield "required_assurance", str(policy.required_assurance)
    yield "collection", policy.collection
    yield "information_confirmation", ", ".join(policy.information_confirmation)
    messages, quiet = policy.messages, policy.messages.quiet_hours
    yield "messages.tell_counter_look_ups", "yes" if messages.tell_counter_look_ups else "no"
    yield "messages.quiet_hours", f"{quiet.begins:%H:%M} to {quiet.ends:%H:%M}" if quiet else "none"
    yield "messages.signature", messages.signature.zh if messages.signature else "the service's"
    yield "messages.texts", ", ".join(messages.texts) or "the service's"
    for known in policy.generations:
        ends = f"until {known.cut_off_on}, announced {known.announced_on}" if known.cut_off_on else "no end announced"
        yield f"generation {known.number}", ends
    yield "activation", ", ".join(way.channel for way in policy.activation)
    for act in ACTS:
        yield f"channels.{act}", ", ".join(policy.channels[act]) or "never"

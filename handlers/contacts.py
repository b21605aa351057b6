"""Contacts over HTTP: the address, its code, and what one declines."""

from typing import Any

from handlers.endpoints import Call
from schemas.contacts import (
    ContactPreferences,
    ContactsView,
    EmailCode,
    EmailCodeView,
    EmailToConfirm,
    contacts_view,
    email_code_view,
)
from schemas.wire import EmptyBody
from service.contacts import Contacts


async def show_contacts(call: Call[None]) -> ContactsView:
    """How I am reached, and what I decline."""
    return await _shown(call, await call.services.contacts.mine(call.holder_id))


async def ask_email_code(call: Call[EmailToConfirm]) -> EmailCodeView:
    """Send a code to an address of mine, to confirm it. A new code voids the old one."""
    return email_code_view(await call.services.contacts.ask(call.holder_id, call.body.email, call.locale))


async def confirm_email(call: Call[EmailCode]) -> ContactsView:
    """Confirm the address with its code. The mobile is told, and the address that was confirmed before."""
    contacts = call.services.contacts
    return await _shown(call, await contacts.confirm(call.holder_id, call.body.code, call.locale, request=call.mark))


async def remove_email(call: Call[EmptyBody]) -> ContactsView:
    """Take my address away. The mobile is told, and the address."""
    return await _shown(call, await call.services.contacts.remove(call.holder_id, call.locale, request=call.mark))


async def change_preferences(call: Call[ContactPreferences]) -> ContactsView:
    """Decline what can be declined, and choose a language."""
    wanted = call.body
    changed = await call.services.contacts.prefer(
        call.holder_id,
        frozenset(wanted.sms_opt_out),
        frozenset(wanted.email_opt_out),
        wanted.locale,
        request=call.mark,
    )
    return await _shown(call, changed)


async def _shown(call: Call[Any], contacts: Contacts) -> ContactsView:
    holder = await call.services.holders.me(call.holder_id)
    region = call.services.regions.by_code.get(holder.region_code)
    return contacts_view(holder, contacts, region.policy.messages.quiet_hours if region else None, call.now)

"""A conversation's draft and requests in words, for the answers that show them."""

from __future__ import annotations

import logging
from collections.abc import Collection

import phonenumbers

from assistant.contact.desk import contact_desk
from assistant.contact.request import Draft
from assistant.settings import load_settings
from assistant.storage.database import StorageError

logger = logging.getLogger(__name__)

DRAFT_PLACES = frozenset({"contact_name", "contact_reach", "contact_time", "contact_note"})
"""Places of answers that `draft_words` fills; what stands there is personal."""


REQUEST_PLACES = frozenset({"request_days", "request_numbers"})
"""Places of answers that `request_words` fills."""


def draft_words(conversation_id: str) -> dict[str, str]:
    """Return what a visitor has said so far, by place; "" for what is not known."""
    try:
        draft = contact_desk().draft(conversation_id) or Draft()
    except StorageError as error:
        logger.error("A draft could not be read: %s", error)
        draft = Draft()
    return {
        "contact_name": draft.name,
        "contact_reach": " or ".join(filter(None, (shown_phone(draft.phone), draft.email))),
        "contact_time": draft.preferred_time,
        "contact_note": draft.note,
    }


def request_words(conversation_id: str, places: Collection[str]) -> dict[str, str]:
    """Return what is to be said of requests, for those of the places that speak of them."""
    words = {}
    if "request_days" in places:
        words["request_days"] = f"{load_settings().request_days:g}"
    if "request_numbers" in places:
        words["request_numbers"] = _numbers(conversation_id)
    return words


def open_requests(conversation_id: str) -> list[str]:
    """Return the numbers of the requests that a visitor sent and did not take back; oldest first.

    Raises:
        StorageError: the database cannot be read.
    """
    receipts = contact_desk().receipts(conversation_id)
    return [receipt.number for receipt in receipts if receipt.status != "withdrawn"]


def _numbers(conversation_id: str) -> str:
    try:
        return ", ".join(open_requests(conversation_id))
    except StorageError as error:
        logger.error("The requests could not be read: %s", error)
        return ""


def shown_phone(phone: str) -> str:
    """Return a number in E.164 as people write it: US numbers without the country."""
    if not phone:
        return ""
    number = phonenumbers.parse(phone)
    style = (
        phonenumbers.PhoneNumberFormat.NATIONAL
        if number.country_code == 1
        else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    )
    return str(phonenumbers.format_number(number, style))

"""Phone numbers and e-mail addresses in a message."""

from __future__ import annotations

import re
from dataclasses import dataclass

import phonenumbers
from email_validator import EmailNotValidError, validate_email

_COUNTRY = "US"
_EMAIL = re.compile(r"[^\s,;<>()\"']+@[^\s,;<>()\"']+")
_SPELLED = re.compile(r"(\S+)\s+at\s+([\w-]+)\s+dot\s+(\w{2,})", re.IGNORECASE)
_FEWEST_DIGITS = 5  # fewer are an hour, an age or a date, not a number mistyped


@dataclass(frozen=True)
class Reach:
    """What a message says on how to reach somebody.

    Attributes:
        phone: in E.164; "" if there is none.
        email: the address; "" if there is none.
        rest: the message without both, a line break in place of each.
        wrong: `phone` or `email` if one was tried and is not one; "" otherwise.
    """

    phone: str = ""
    email: str = ""
    rest: str = ""
    wrong: str = ""

    @property
    def given(self) -> bool:
        """Whether there is a way to reach the visitor."""
        return bool(self.phone or self.email)


def find_reach(text: str) -> Reach:
    """Return the first phone number and e-mail address of a text.

    Numbers without a country are taken as US numbers.
    """
    rest = _SPELLED.sub(r"\1@\2.\3", text)
    email, wrong = "", "email" if "@" in rest else ""
    for match in _EMAIL.finditer(rest):
        rest = rest.replace(match.group(), "\n")
        try:
            checked = validate_email(match.group().rstrip(".!?:"), check_deliverability=False)
            email = email or checked.normalized
        except EmailNotValidError:
            continue
    phone = ""
    for found in phonenumbers.PhoneNumberMatcher(rest, _COUNTRY):
        phone = phone or _e164(found.number)
        rest = rest[: found.start] + "\n" * (found.end - found.start) + rest[found.end :]
    if not phone and (digits := _whole_number(rest)):
        phone, rest = digits, ""
    if not (phone or email or wrong) and sum(map(str.isdigit, rest)) >= _FEWEST_DIGITS:
        wrong = "phone"
    return Reach(phone, email, rest, "" if phone or email else wrong)


def _whole_number(text: str) -> str:
    """Return the number that a text is, also in forms that the matcher does not look for."""
    if not re.fullmatch(r"[\d\s().+\-/x]{7,24}", text.strip()):
        return ""
    try:
        number = phonenumbers.parse(text, _COUNTRY)
    except phonenumbers.NumberParseException:
        return ""
    return _e164(number) if phonenumbers.is_valid_number(number) else ""


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))

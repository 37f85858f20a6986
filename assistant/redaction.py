"""Takes personal data out of text by pattern, before it is stored or logged.

Every pattern errs towards taking out too much. It works offline and needs no model: what no pattern
can know (a name without "my name is") is handled where it is known, see `storage/kept_events.py`.
"""

from __future__ import annotations

import re
from typing import Any

import phonenumbers

# All of it now: read at need, a file that cannot be opened (no descriptor is left) leaves the
# library's lock held, and whatever is redacted next, such as a line of the log, waits for ever.
phonenumbers.PhoneMetadata.load_all()

# No part may hold an @, or a thousand of them would take minutes.
_EMAIL = re.compile(r"(?:[^\s@,;:<>()\"'\[\]{}]+@+)+[^\s@,;<>()\"'\[\]{}]+\.[^\W\d]\w+")
_SPELLED_EMAIL = re.compile(
    r"\b[\w.+-]+ (?:at|\(at\)|\[at\]) [\w-]+(?: dot |\.)\w{2,}\b", re.IGNORECASE
)
_SOCIAL_SECURITY = re.compile(r"\b\d{3}[- ]\d{2}[- ]\d{4}\b")
_CARD = re.compile(r"\b(?:\d[ -]?){13,19}\b")
_PHONE = re.compile(r"(?<![\w.])(?:\+?1[\s.-]?)?\(?\d{3}\)?[\s.-]?\d{3}[\s.-]?\d{4}(?!\d)")
_LOCAL_PHONE = re.compile(r"(?<![\w.-])\d{3}[\s.-]\d{4}(?![\d-])")
_DIGITS = re.compile(r"(?<![\w.-])\d(?:[ .()/-]?\d){6,}(?![\w-])")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_BIRTH = re.compile(
    r"\b(?:d\.?o\.?b\.?|born|birth ?date|birthday|date of birth)\b[^.\n]{0,20}?"
    rf"(?:\d{{1,4}}[/.-]\d{{1,2}}(?:[/.-]\d{{2,4}})?|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{2,4}}|"
    rf"\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? \d{{2,4}}|(?:19|20)\d\d)",
    re.IGNORECASE,
)
_FULL_DATE = re.compile(
    r"\b\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d{2}\b|\b(?:19|20)\d{2}-\d{2}-\d{2}\b(?!T)"
)
_MEMBER = re.compile(
    r"\b(?:member|subscriber|policy|group|insurance|medicare|medi-cal|claim|patient|account|license|licence)"
    r"(?:\s*(?:id|number|no\.?|nr\.?|card|#))*(?:\s*(?:is|:|=|#))*\s*(?=[A-Z0-9-]*\d)[A-Z0-9][A-Z0-9-]{4,}\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"\b\d{1,6}\s+(?:[NSEW]\.?\s+)?(?:[A-Z0-9][\w'.-]*\s+){1,4}"
    r"(?:st|street|ave|avenue|blvd|boulevard|rd|road|dr|drive|ln|lane|ct|court|way|pl|place|cir|circle|"
    r"ter|terrace|hwy|highway|pkwy|parkway)\b\.?(?:,?\s*(?:apt|apartment|unit|suite|ste|#)\.?\s*\w+)?",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?P<lead>\bmy (?:(?:full|first|last|middle|legal|maiden) )?name(?:['’]?s| is)?:?\s+)"  # noqa: RUF001
    r"(?!(?:on|to|in|and|for|with|or|the|a|not)\b)[^\W\d_][\w'’.-]*"  # noqa: RUF001
    r"(?:\s+(?!(?:and|but|i|my|please|phone|number|e-?mail|at|on|is)\b)[^\W\d_][\w'’.-]*){0,5}",  # noqa: RUF001
    re.IGNORECASE,
)
_INTRODUCED = re.compile(
    r"(?P<lead>\b(?i:i am|i['’]?m|it['’]?s|this is|call me|ask for|signed|regards|sincerely),?\s+)"  # noqa: RUF001
    r"[A-Z][\w'’-]+(?:\s+(?:de|la|van|der|von|del|[A-Z][\w'’.-]*)){0,4}"  # noqa: RUF001
)

_PLAIN = re.compile(r"[a-z_/]*")  # a topic's name; most of what is kept, and no pattern fits it

_PATTERNS = (
    ("e-mail", _EMAIL),
    ("e-mail", _SPELLED_EMAIL),
    ("date of birth", _BIRTH),
    ("member number", _MEMBER),
    ("social security number", _SOCIAL_SECURITY),
    ("card number", _CARD),
    ("phone", _PHONE),
    ("address", _ADDRESS),
    ("date", _FULL_DATE),
    ("phone", _LOCAL_PHONE),
    ("number", _DIGITS),
)


def redact(text: str) -> str:
    """Return a text with phone numbers, addresses, names after "my name is" ... taken out.

    Each is replaced by what it was, in brackets: `[phone]`.
    """
    if _PLAIN.fullmatch(text):
        return text
    for found in reversed(list(phonenumbers.PhoneNumberMatcher(text, "US"))):
        text = f"{text[: found.start]}[phone]{text[found.end :]}"
    for label, pattern in _PATTERNS:
        text = pattern.sub(f"[{label}]", text)
    for pattern in (_NAME, _INTRODUCED):
        text = pattern.sub(lambda match: f"{match['lead']}[name]", text)
    return text


def redact_all(value: Any) -> Any:
    """Return a structure of JSON's kinds with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item) for item in value]
    return value

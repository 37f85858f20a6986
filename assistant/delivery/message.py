"""What the office is told: that there is a request, and by its own wish what it says."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from assistant.contact.request import Draft


class DeliveryError(Exception):
    """A target did not take a message. The words go to log and database: nothing personal in them."""


@dataclass(frozen=True)
class OfficeMessage:
    """A message to one target.

    Attributes:
        message_id: the same at every attempt, so that a receiver can drop what it has already.
        event: "new" or "withdrawn".
        number: public reference of the request.
        created_at: when it was to be told, in UTC.
        details: what the visitor wrote; None unless the office wants it in messages.
    """

    message_id: str
    event: str
    number: str
    created_at: dt.datetime
    details: Draft | None = None

    @property
    def subject(self) -> str:
        """One line."""
        if self.event == "withdrawn":
            return f"Request {self.number} was withdrawn"
        return f"New request {self.number}"

    @property
    def text(self) -> str:
        """A few lines in plain words."""
        if self.event == "withdrawn":
            return (
                f"The visitor withdrew request {self.number}. What was stored of it is deleted.\n"
                f"Please delete your own copies too, and do not contact the visitor about it."
            )
        lines = [f"There is a new request from the website: {self.number}."]
        if self.details is None:
            lines.append(f"Open the inbox to read it: assistant requests show {self.number}")
        else:
            lines += [f"{label}: {value}" for label, value in labelled(self.details).items()]
        return "\n".join(lines)


def labelled(details: Draft) -> dict[str, str]:
    """Return what a visitor wrote with a label for each field; without the empty ones."""
    fields = {
        "Name": details.name,
        "Phone": details.phone,
        "E-mail": details.email,
        "Preferred time": details.preferred_time,
        "Note": details.note,
    }
    return {label: value for label, value in fields.items() if value}

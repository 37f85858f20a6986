"""Delivery by e-mail, through any SMTP server."""

from __future__ import annotations

from email.message import EmailMessage

import aiosmtplib

from assistant.delivery.message import DeliveryError, OfficeMessage
from assistant.settings import MailServer


class MailSender:
    """Sends to one mailbox.

    Args:
        server: where mail goes out.
        mailbox: the office's address.
    """

    def __init__(self, server: MailServer, mailbox: str) -> None:
        self._server = server
        self._mailbox = mailbox

    async def send(self, message: OfficeMessage, seconds: float) -> None:
        """Send a message.

        Raises:
            DeliveryError: the server did not take it.
        """
        server = self._server
        try:
            await aiosmtplib.send(
                self._as_mail(message),
                hostname=server.host,
                port=server.port,
                username=server.user or None,
                password=server.password or None,
                use_tls=server.security == "tls",
                start_tls=server.security == "starttls",
                timeout=seconds,
            )
        except aiosmtplib.SMTPResponseException as error:
            raise DeliveryError(f"the mail server answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"the mail server failed: {type(error).__name__}") from error

    def _as_mail(self, message: OfficeMessage) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._server.sender
        mail["To"] = self._mailbox
        mail["Subject"] = message.subject
        mail["Date"] = message.created_at
        mail["Message-ID"] = f"<{message.message_id}@{self._server.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

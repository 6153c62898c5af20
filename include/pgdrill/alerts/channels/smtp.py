"""Mail. Everything of one key stands in one thread; a mail that comes twice is known by its id."""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import format_datetime

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels.base import Credentials, NotSent, Sending, Sent, missing
from pgdrill.alerts.words import body, title

PORTS = {"starttls": 587, "tls": 465, "none": 25}
BUSY = range(400, 500)  # SMTP's codes for what may work later


class Mail:
    """Sends plain mails by a server."""

    def __init__(self, settings: AlertChannel, credentials: Credentials) -> None:
        in_clear = settings.security == "none"
        self.user = "" if in_clear else settings.user or credentials.user
        if self.user and not credentials.secret:
            raise NotSent("no password")
        self.settings = settings
        self.credentials = credentials

    def send(self, sending: Sending) -> Sent:
        """Send the mail to every recipient that does not have it yet."""
        mail = mail_of(sending, self.settings.sender, self.settings.to)
        recipients = missing(sending.have_it, self.settings.to)
        try:
            with self._connection() as server:
                refused = server.send_message(mail, self.settings.sender, recipients)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPNotSupportedError:
            raise NotSent("mail server: it offers no STARTTLS, or no login") from None
        except smtplib.SMTPResponseException as error:
            found = f"mail server: {type(error).__name__}, code {error.smtp_code}"
            raise NotSent(found, again=error.smtp_code in BUSY) from None
        except ssl.SSLError as error:
            raise NotSent(f"mail server: no TLS that is trusted ({error.reason})") from None
        except (smtplib.SMTPException, OSError) as error:
            found = f"mail server: no answer ({type(error).__name__})"
            raise NotSent(found, again=True) from None
        taken = tuple(one for one in recipients if one not in refused)
        failures = tuple(f"{one}: refused, code {code}" for one, (code, _) in refused.items())
        return Sent(parts=(*sending.have_it, *taken), failures=failures)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        """A session that is over after the channel's time, whatever the server does."""
        timeout, security = self.settings.timeout_seconds, self.settings.security
        port = self.settings.port or PORTS[security]
        context = ssl.create_default_context()
        if security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(timeout=timeout)
        clock = threading.Timer(timeout, _hang_up, (server,))
        clock.daemon = True
        clock.start()
        try:
            server._host = self.settings.host  # type: ignore[attr-defined]  # the name that TLS asks for
            server.connect(self.settings.host, port)
            if security == "starttls":
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.credentials.secret)
            yield server
        finally:
            clock.cancel()
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.close()


def _hang_up(server: smtplib.SMTP) -> None:
    if server.sock is not None:
        with contextlib.suppress(OSError):
            server.sock.shutdown(socket.SHUT_RDWR)


def mail_of(sending: Sending, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Return the mail: its id is the message's, its thread the key's."""
    message, domain = sending.message, sender.rpartition("@")[2]
    mail = EmailMessage()
    mail["Subject"] = title(message)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{_digest(message.id)}@{domain}>"
    mail["References"] = mail["In-Reply-To"] = f"<{_digest(message.key)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Pgdrill-Key"] = message.key
    if message.severity == "critical" and message.kind != "end":
        mail["Importance"] = "high"
    mail.set_content(body(message, sending.note))
    return mail


def _digest(text: str) -> str:
    return f"pgdrill.{hashlib.sha256(text.encode()).hexdigest()[:32]}"

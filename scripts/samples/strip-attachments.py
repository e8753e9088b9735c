"""Take programs out of the mail, and leave a note where each one was.

A signed message cannot be changed without breaking its signature: it is refused instead.
"""

from smtpproxy.script import deny, settings


class Settings:
    endings: set[str] = {".exe", ".scr", ".js", ".vbs", ".bat", ".cmd", ".com", ".pif", ".jar"}
    note: str = "The attachment {name} was removed: programs are not accepted by mail."


def on_message(mail):
    removed = []
    for part in mail.attachments:
        name = part.filename.lower().rstrip(" .")
        if not any(name.endswith(ending) for ending in settings.endings):
            continue
        if part.signed:
            return deny(f"Programs are not accepted: {part.filename}", code="550 5.7.1")
        removed.append(part.filename)
        note = settings.note.format(name=part.filename)
        part.replace(note, filename="removed.txt", content_type="text/plain")
    if removed:
        mail.header["X-Removed"] = ", ".join(removed)

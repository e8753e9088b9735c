"""Quarantine by type: mail with attachments of some types waits for somebody to look at it.

The whole message goes to a [handoff.NAME] of kind "quarantine"; `smtpproxy quarantine` lists, shows and releases it.

    [rule.quarantine-by-type]
    endings = [".docm", ".xlsm", ".iso"]
    handoff = "held"
"""

from smtpproxy.script import log, settings


class Settings:
    endings: set[str] = {".docm", ".xlsm", ".pptm", ".iso", ".img", ".lnk", ".one"}
    types: set[str] = {"application/x-msdownload", "application/x-ms-shortcut"}
    handoff: str = "quarantine"


def on_message(mail):
    for part in mail.attachments:
        name = part.filename.lower().rstrip(" .")
        if part.content_type in settings.types or any(name.endswith(ending) for ending in settings.endings):
            mail.results.add("type", "fail", file=part.filename)
            log.info("held for its type", file=part.filename, type=part.content_type)
            mail.via = settings.handoff
            return

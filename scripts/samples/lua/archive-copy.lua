-- Archive: a copy of every mail to some domains is kept in a folder, one file each, whoever delivers the mail.
--
-- The copy is on disk before the client hears 250, and is dropped if the mail is refused after all. While the folder's
-- disk is full, mail for these domains is deferred: what must be archived is not delivered without.
--
--     [handoff.archive]
--     kind = "quarantine"
--     folder = "archive"
--
--     [rule.archive-copy]
--     domains = ["example.com"]

settings = { domains = set{ "example.com" }, handoff = "archive" }

function on_message(mail)
  for _, rcpt in pairs(mail.recipients) do
    if settings.domains[rcpt.domain] then
      mail.notes.quarantine_reason = "a copy for the archive"
      mail:add_copy(settings.handoff)
      return
    end
  end
end

-- Quarantine by type: mail with attachments of some types waits for somebody to look at it.
--
-- The whole message goes to a [handoff.NAME] of kind "quarantine"; `smtpproxy quarantine` lists, shows and releases it.
--
--     [rule.quarantine-by-type]
--     endings = ["docm", "xlsm", "iso"]
--     handoff = "held"

settings = {
  endings = set{ "docm", "xlsm", "pptm", "iso", "img", "lnk", "one" },
  types = set{ "application/x-msdownload", "application/x-ms-shortcut" },
  handoff = "quarantine",
}

function on_message(mail)
  for _, part in pairs(mail.attachments) do
    local ending = part.filename:lower():match("%.(%w+)[ .]*$")
    if settings.types[part.content_type] or ending and settings.endings[ending] then
      mail.results:add("type", "fail", { file = part.filename })
      log.info("held for its type", { file = part.filename, type = part.content_type })
      mail.via = settings.handoff
      return
    end
  end
end

-- Take programs out of the mail, and leave a note where each one was.
--
-- A signed message cannot be changed without breaking its signature: it is refused instead.

settings = {
  endings = set{ "exe", "scr", "js", "vbs", "bat", "cmd", "com", "pif", "jar" },
  note = "The attachment NAME was removed: programs are not accepted by mail.",
}

function on_message(mail)
  local removed = {}
  for _, part in pairs(mail.attachments) do
    local name = part.filename
    local ending = name:lower():match("%.(%w+)[ .]*$")
    if ending and settings.endings[ending] then
      if part.signed then
        return deny("Programs are not accepted: " .. name, {code = "550 5.7.1"})
      end
      removed[#removed + 1] = name
      local before, after = settings.note:match("^(.-)NAME(.*)$")
      local note = before and before .. name .. after or settings.note
      part:replace(note, {filename = "removed.txt", content_type = "text/plain"})
    end
  end
  if #removed > 0 then
    mail.header["X-Removed"] = table.concat(removed, ", ")
  end
end

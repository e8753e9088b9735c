-- Tag what is urgent, and say in the header that we have seen it.
--
-- The same in Lua: save this file with another word, and send again.
--
--     smtpproxy send --header "Subject: urgent: lunch"

settings = { word = "urgent", tag = "[!] " }

function on_message(mail)
  local subject = mail.header["Subject"] or ""
  if subject:lower():find(settings.word, 1, true) and not subject:find(settings.tag, 1, true) then
    mail.header["Subject"] = settings.tag .. subject
  end
  mail.header:add("X-Seen-By", mail.client.listener.hostname)
end

-- Tag the Subject of mail from outside, so that nobody takes it for a colleague's.
--
-- From outside is who has not logged in and comes from none of [relaying] networks. A Subject that has the tag already
-- (an answer) stays as it is. Let this run behind what verifies DKIM: a changed Subject breaks most signatures.
--
--     [rule.tag-subject]
--     tag = "[EXTERNAL]"

settings = { tag = "[EXTERNAL]" }

function on_header(mail)
  if mail.client.login or mail.client.trusted then return end
  local subject = mail.header["Subject"] or ""
  if not subject:find(settings.tag, 1, true) then
    mail.header["Subject"] = settings.tag .. " " .. subject
  end
end

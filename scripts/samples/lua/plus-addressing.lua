-- Plus addressing: ann+shop@example.com is ann@example.com, and the message says where it was sent to.
--
-- The tag is in `rcpt.notes.tag` for the rules behind this one. The field is added to mail for one recipient only: others
-- need not know under which address somebody was told of in a Bcc. Rules that check recipients belong behind this one.
--
--     [rule.plus-addressing]
--     domains = ["example.com"]
--     separator = "-"

settings = { domains = set{ "example.com" }, separator = "+", field = "X-Original-To" }

function on_rcpt(mail, rcpt)
  local at, last = rcpt.local_part:find(settings.separator, 2, true)
  if at and settings.domains[rcpt.domain] then
    rcpt.notes.tag = rcpt.local_part:sub(last + 1)
    rcpt.local_part = rcpt.local_part:sub(1, at - 1)
  end
end

function on_header(mail)
  local rcpt = mail.recipients[1]
  if #mail.recipients == 1 and rcpt.notes.tag then
    mail.header:add(settings.field, tostring(rcpt.original))
  end
end

-- A user who has logged in sends under an address of their own, and nobody else's.
--
-- That is the login name, if it is an address, and what `also` gives them: addresses, or "@example.com" for a whole domain.
-- The null sender is everybody's: receipts and other automatic answers have it.
--
--     [rule.sender-matches-login]
--     also = { "ann@example.com" = ["office@example.com", "@lists.example.com"] }

settings = { also = {} }
on_error = "deny"

function on_mail(mail, sender)
  local user, address = mail.client.login, tostring(sender)
  if not user or address == "" or address == user then return end
  for _, other in ipairs(settings.also[user] or {}) do
    if other == address or other == "@" .. sender.domain then return end
  end
  return deny(address .. " is not an address of " .. user, { code = "553 5.7.1" })
end

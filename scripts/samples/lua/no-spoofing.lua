-- No spoofing: nobody outside sends as one of us.
--
-- Mail whose envelope sender is in our domains is taken from clients that have logged in, from [relaying] networks, and
-- from `hosts` (confirmed names): those who send in our name, such as a newsletter service.
--
--     [rule.no-spoofing]
--     domains = ["example.com"]
--     hosts = ["mta1.newsletters.example.net"]

settings = { domains = set{ "example.com" }, hosts = set{} }

function on_mail(mail, sender)
  local client = mail.client
  if not settings.domains[sender.domain] or client.login or client.trusted then return end
  if client.name and settings.hosts[client.name] then return end
  return deny("Mail from " .. sender.domain .. " is not taken from your host; log in", { code = "550 5.7.1" })
end

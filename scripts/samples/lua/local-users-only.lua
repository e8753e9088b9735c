-- Local users only: refuse recipients of our domains that nobody has.
--
-- An entry of `users` is an address, a name in all domains (`postmaster@`), or a file of such entries, one a line, which
-- is read again when it changes.
--
--     [rule.local-users-only]
--     domains = ["example.com", "example.org"]
--     users = ["postmaster@", "alice@example.com", "file:users"]

settings = { domains = set{ "example.com" }, users = { "postmaster@", "abuse@" } }

function on_rcpt(mail, rcpt)
  if settings.domains[rcpt.domain] and not lists.addresses(settings.users):has(rcpt) then
    return deny("No such user", { code = "550 5.1.1" })
  end
end

-- API-key login: programs log in with a key of their own instead of somebody's password.
--
-- The configuration holds the SHA-256 of each key (`printf %s KEY | sha256sum`), never the key. A name that stands here logs
-- in with its key or not at all; other names are left to whatever else checks logins.
--
--     [rule.api-key-login]
--     keys = { "shop" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }

on_error = "deny"

settings = { keys = {} }

function on_auth(client, login)
  local expected = settings.keys[login.name]
  if not expected then return end
  -- What a comparison's time could tell is a piece of a digest, of which nobody makes a key.
  if digest.sha256(login.password) == expected:lower() then
    return accept()
  end
  return deny("Wrong key", {code = "535 5.7.8"})
end

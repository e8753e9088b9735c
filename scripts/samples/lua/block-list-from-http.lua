-- Block list: refuse senders of domains that a web server lists, as {"domains": ["bad.example", ...]}.
--
-- The list is fetched when the first mail wants it and kept in memory for five minutes. While the server cannot be
-- reached, the last list that came counts; mail never waits for it longer than two seconds, and never fails for it.
--
--     [rule.block-list-from-http]
--     url = "https://lists.example.com/blocked.json"

settings = { url = "https://lists.example.com/blocked.json", refresh = "5m" }
on_error = "continue"

local function fetched()
  local ok, found = pcall(function() return http.get(settings.url, { timeout = "2s" }).json.domains end)
  if ok and found then return found end
  log.warning("the block list is not to be had", { url = settings.url, error = found })
end

local function blocked()
  local domains = cache.get("fresh")
  if domains == nil then
    domains = fetched() or cache.get("last") or false
    cache.set("fresh", domains, { expires = settings.refresh })
    cache.set("last", domains)
  end
  return domains
end

function on_mail(mail, sender)
  local domains = blocked()
  if domains and domains:has(sender.domain) then
    return deny("Mail from " .. sender.domain .. " is not wanted here", { code = "550 5.7.1" })
  end
end

-- Webhook on message: tell a web server of every mail that was taken or refused, as JSON, when the sender has its answer.
--
-- No mail waits for it: this rule only looks on. What cannot be told is in the log.
--
--     [rule.webhook-on-message]
--     url = "https://shop.example.com/mail-events"
--     secret = "..."           # signs the request: X-Signature is the HMAC with SHA-256 of its time and the mail's id

settings = { url = "https://shop.example.com/mail-events", secret = "" }

local function tell(event, mail, told)
  told.event, told.at, told.id = event, math.floor(clock.now()), mail.id
  told.client, told.sender, told.recipients = mail.client.address, mail.sender, mail.recipients
  local signature = digest.hmac_sha256(settings.secret, told.at .. " " .. mail.id)
  local ok, answer = pcall(http.post_json, settings.url, told, { headers = { ["X-Signature"] = signature }, timeout = "2s" })
  if not (ok and answer.ok) then
    local problem = ok and "status " .. answer.status or answer
    log.warning("webhook not told", { event_of = event, problem = problem })
  end
end

function watch_message(mail)
  local results = {}
  for name, result in pairs(mail.results) do results[name] = result.value end
  tell("taken", mail, { results = results })
end

function watch_refused(client, mail, reply)
  if mail then tell("refused", mail, { reply = tostring(reply) }) end
end

function watch_deny(client, mail, verdict)
  if mail then tell("refused", mail, { reply = verdict.code .. " " .. verdict.text, rule = verdict.rule }) end
end

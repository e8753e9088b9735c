-- Webhook: tell a web server of every mail that was delivered, or has bounced for good, as JSON.
--
-- An answer other than 2xx, or none within a second, is asked for again, three times in all; then the log says so, and the
-- mail is none the worse. With a token, requests carry `Authorization: Bearer TOKEN`.
--
--     [rule.webhook-on-delivery]
--     url = "https://shop.example.com/mail-events"
--     token = "..."

settings = { url = "https://shop.example.com/mail-events", token = "", tries = 3 }

local function tell(event, delivery)
  local told = {
    event = event, id = delivery.id, sender = delivery.sender, recipients = delivery.recipients, host = delivery.host,
    reply = delivery.reply and tostring(delivery.reply) or "", attempts = delivery.attempts,
  }
  local options = { timeout = "1s" }
  if settings.token ~= "" then options.headers = { Authorization = "Bearer " .. settings.token } end
  local problem
  for _ = 1, settings.tries do
    local ok, answer = pcall(http.post_json, settings.url, told, options)
    if ok and answer.ok then return end
    problem = ok and "status " .. answer.status or answer
  end
  log.warning("webhook not told", { mail = delivery.id, event_of = event, problem = problem })
end

function on_delivered(delivery) tell("delivered", delivery) end

function on_bounced(delivery) tell("bounced", delivery) end

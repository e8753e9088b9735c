-- Refuse mail with a virus, as ClamAV's clamd sees it. [scanner.clamav] says where clamd is.
--
-- While no clamd can be asked, mail is deferred and its senders try again: nothing passes unscanned. A scan of a large
-- mail takes longer than the five seconds that a rule usually has:
--
--     [rule.virus-scan]
--     wall = "60s"

on_error = "defer"
on_timeout = "defer"

function on_message(mail)
  local scan = clamav.scan(mail)
  if scan.infected then
    log.info("virus", { name = scan.name, sender = tostring(mail.sender) })
    return deny("Virus found: " .. scan.name, { code = "554 5.7.1" })
  end
end

-- Name spoofing: refuse strangers who write under the name of one of us, "Jane Doe <jd4711@mail.example.net>".
--
-- The display names of From and Reply-To are compared, whatever case and spaces. Who writes from one of our domains is not
-- asked (no-spoofing looks after these), nor who has logged in, nor the addresses in `also`: Jane's own at home.
--
--     [rule.name-spoofing]
--     names = ["Jane Doe", "John Roe"]
--     also = ["jane@doe.example"]

settings = { names = {}, domains = set{ "example.com" }, also = set{} }

local function plain(name)
  return (name:lower():gsub("%s+", " "):match("^ ?(.-) ?$"))
end

function on_header(mail)
  if mail.client.login or mail.client.trusted then return end
  local ours = {}
  for _, name in ipairs(settings.names) do ours[plain(name)] = true end
  for _, field in ipairs{ "From", "Reply-To" } do
    for _, box in pairs(mail.header:addresses(field)) do
      if ours[plain(box.phrase)] and not settings.domains[box.domain] and not settings.also[tostring(box)] then
        return deny(tostring(box) .. " is not the address of " .. box.phrase, { code = "550 5.7.1" })
      end
    end
  end
end

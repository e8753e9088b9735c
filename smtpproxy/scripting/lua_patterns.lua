-- string.find, match, gmatch and gsub that cannot hold the process.
--
-- Lua's own matcher is one C call that no meter sees, and it backtracks: a quantifier costs up to the longest run of its
-- class in the text for every way of matching what stands before it, "?" doubles, and a pattern without "^" is tried at
-- every place where it can begin. Where the product is small Lua's matcher runs, and its time is charged. Else the
-- matcher below does, which pays for each step: same results, slower, stopped in time. A malformed pattern is an error
-- in both, whatever the text.
--
-- A pattern is compiled into items: { kind, class, rep, ... }. The class of a single character is matched by Lua's own
-- matcher, anchored, which is linear.
local runtime = ...

local raise, charge, settle = runtime.raise, runtime.charge, runtime.settle
local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub
local byte, sub, tostring, type = string.byte, string.sub, tostring, type
local concat, unpack, clock, ipairs = table.concat, table.unpack, os.clock, ipairs

local MOST, QUICK = 1e7, 1e4         -- steps: above MOST our matcher, above QUICK by the clock
local STEP = 12                      -- instructions that one step of ours is charged as
local KEPT = 200                     -- compiled patterns that are kept
local MOST_CAPTURES = 32
local SPECIAL = "[%^%$%*%+%?%.%(%)%[%%%-]"

local SINGLE, OPEN, PLACE, CLOSE, BALANCE, FRONTIER, BACK, LAST = 1, 2, 3, 4, 5, 6, 7, 8

-- Compiling ---------------------------------------------------------------------------------------------------------

local function class_end(p, i)       -- the index behind the class that begins at i
  local c = sub(p, i, i)
  if c == "%" then
    if i == #p then raise("malformed pattern (ends with '%')") end
    return i + 2
  end
  if c ~= "[" then return i + 1 end
  i = i + 1
  if sub(p, i, i) == "^" then i = i + 1 end
  repeat
    if i > #p then raise("malformed pattern (missing ']')") end
    local inner = sub(p, i, i)
    i = i + (inner == "%" and 2 or 1)
  until sub(p, i, i) == "]"
  return i + 1
end

local function single(class, rep)
  local literal = #class == 1 and class ~= "." and class or match(class, "^%%(%W)$")
  if literal then class = gsub(literal, "%p", "%%%0") end
  return { kind = SINGLE, rep = rep, class = class, once = "^" .. class, run = "^" .. class .. "*", any = class == ".",
    byte = literal and byte(literal), text = literal }
end

local function item(p, i)            -- the item that begins at i, and the index behind it
  local c, two = sub(p, i, i), sub(p, i, i + 1)
  if c == "(" then
    if sub(p, i + 1, i + 1) == ")" then return { kind = PLACE }, i + 2 end
    return { kind = OPEN }, i + 1
  end
  if c == ")" then return { kind = CLOSE }, i + 1 end
  if c == "$" and i == #p then return { kind = LAST }, i + 1 end
  if two == "%b" then
    if i + 3 > #p then raise("malformed pattern (missing arguments to '%b')") end
    return { kind = BALANCE, open = byte(p, i + 2), close = byte(p, i + 3) }, i + 4
  end
  if two == "%f" then
    if sub(p, i + 2, i + 2) ~= "[" then raise("missing '[' after '%f' in pattern") end
    local behind = class_end(p, i + 2)
    return { kind = FRONTIER, once = "^" .. sub(p, i + 2, behind - 1) }, behind
  end
  if match(two, "^%%%d") then return { kind = BACK, number = byte(two, 2) - 48 }, i + 2 end
  local behind = class_end(p, i)
  local rep = match(sub(p, behind, behind), "[*+?-]")
  return single(sub(p, i, behind - 1), rep), behind + (rep and 1 or 0)
end

local function length_for(steps, weight, power)
  if power == 0 then return math.huge end
  return (steps / weight) ^ (1 / power)
end

local function compile(p, anchors)
  local items, i, loops, loop_classes, doubles = {}, 1, 0, {}, 0
  local anchored = anchors and sub(p, 1, 1) == "^"
  if anchored then i = 2 end
  while i <= #p do
    charge(STEP)
    items[#items + 1], i = item(p, i)
    local last = items[#items]
    if last.rep == "?" then doubles = doubles + 1
    elseif last.rep or last.kind == BALANCE or last.kind == BACK then
      loops = loops + 1
      loop_classes[loops] = last.class or "."
    end
  end
  local power, weight = loops + (anchored and 0 or 1), 2 ^ doubles * (1 + #p // 64)
  local first = 1
  while items[first] and (items[first].kind == OPEN or items[first].kind == PLACE) do first = first + 1 end
  first = items[first]
  local certain = first and first.kind == SINGLE and (not first.rep or first.rep == "+") and first
  return { items = items, anchored = anchored, first = certain, plain = not find(p, SPECIAL),
    loops = loop_classes, weight = weight,
    most = length_for(MOST, weight, power), quick = length_for(QUICK, weight, power) }
end

local function longest_run(s, class, enough)
  local most = 0
  for first, behind in gmatch(s, "()" .. class .. "+()") do
    charge(1)
    if behind - first > most then
      most = behind - first
      if most >= enough then break end
    end
  end
  return most
end

local function cheap(compiled, s)    -- with the runs that this text has: Lua's own matcher will do
  local steps = compiled.weight
  if compiled.first and not compiled.anchored then
    local _, places = gsub(s, compiled.first.class, "")
    steps = steps * (places + 1)
  elseif not compiled.anchored then steps = steps * (#s + 1) end
  for _, class in ipairs(compiled.loops) do
    if steps > MOST then return false end
    steps = steps * (1 + longest_run(s, class, MOST / steps))
  end
  return steps <= MOST
end

local function own_will_do(compiled, s)
  if #s <= compiled.most then return true end
  local since = clock()
  return settle(since, cheap(compiled, s))
end

local function cache(anchors)
  local kept, n = {}, 0
  return function(p)
    local found = kept[p]
    if not found then
      if n == KEPT then kept, n = {}, 0 end
      found = compile(p, anchors)
      kept[p], n = found, n + 1
    end
    return found
  end
end

local anchoring, unanchoring = cache(true), cache(false)   -- gmatch takes "^" for a character

-- Matching ----------------------------------------------------------------------------------------------------------

local function one(item, s, at)
  if item.byte then return byte(s, at) == item.byte end
  if at > #s then return false end
  return item.any or find(s, item.once, at) ~= nil
end

local function behind_run(item, s, at)   -- the place behind the longest run of the class
  local _, last = find(s, item.run, at)
  charge((last - at) // 16)
  return last + 1
end

local run

local function lazily(m, i, at)
  local item, following = m.items[i], m.items[i + 1]
  local jump = item.any and following and following.kind == SINGLE and not following.rep and following.text
  while true do
    if jump then
      local place = find(m.s, jump, at, true)
      charge(((place or #m.s) - at) // 64)
      if not place then return nil end
      at = place
    end
    local last = run(m, i + 1, at)
    if last then return last end
    if not one(item, m.s, at) then return nil end
    at = at + 1
  end
end

local function greedily(m, i, at, least)
  for place = behind_run(m.items[i], m.s, at), at + least, -1 do
    local last = run(m, i + 1, place)
    if last then return last end
  end
end

local function captured(m, i, at, length)   -- length: nil while it is open, -1 for a place
  if m.n == MOST_CAPTURES then raise("too many captures") end
  local n = m.n + 1
  m.n, m.from[n], m.length[n] = n, at, length
  local last = run(m, i + 1, at)
  if not last then m.n = n - 1 end
  return last
end

local function closed(m, i, at)
  local n = m.n
  while n > 0 and m.length[n] do n = n - 1 end
  if n == 0 then raise("invalid pattern capture") end
  m.length[n] = at - m.from[n]
  local last = run(m, i + 1, at)
  if not last then m.length[n] = nil end
  return last
end

local function balanced(item, s, at)
  if byte(s, at) ~= item.open then return nil end
  local depth = 1
  for place = at + 1, #s do
    charge(2)
    local c = byte(s, place)
    if c == item.close then
      depth = depth - 1
      if depth == 0 then return place + 1 end
    elseif c == item.open then depth = depth + 1 end
  end
end

local function repeated(m, item, at)
  local n = item.number
  local length = m.n >= n and m.length[n]
  if not length then raise("invalid capture index %" .. n .. " in pattern") end
  if length == -1 then return nil end
  charge(length // 16)
  if sub(m.s, at, at + length - 1) == sub(m.s, m.from[n], m.from[n] + length - 1) then return at + length end
end

local function at_frontier(item, s, at)
  local before, here = at > 1 and sub(s, at - 1, at - 1) or "\0", at <= #s and sub(s, at, at) or "\0"
  return not find(before, item.once) and find(here, item.once)
end

function run(m, i, at)               -- items from i on match at `at`: the place behind the match, or nil
  local items, s = m.items, m.s
  while true do
    charge(STEP)
    local item = items[i]
    if not item then return at end
    local kind, rep = item.kind, item.rep
    if kind == SINGLE then
      if rep == "*" then return greedily(m, i, at, 0) end
      if rep == "+" then return greedily(m, i, at, 1) end
      if rep == "-" then return lazily(m, i, at) end
      if one(item, s, at) then
        local last = rep and run(m, i + 1, at + 1)
        if last then return last end
        if not rep then at = at + 1 end
      elseif not rep then return nil end
    elseif kind == OPEN then return captured(m, i, at, nil)
    elseif kind == PLACE then return captured(m, i, at, -1)
    elseif kind == CLOSE then return closed(m, i, at)
    elseif kind == LAST then
      if at ~= #s + 1 then return nil end
    elseif kind == FRONTIER then
      if not at_frontier(item, s, at) then return nil end
    else
      if kind == BALANCE then at = balanced(item, s, at) else at = repeated(m, item, at) end
      if not at then return nil end
    end
    i = i + 1
  end
end

local function search(m, at, not_at) -- the first match from `at` on that does not end at `not_at`: first place, place behind
  local first, s = m.first, m.s
  while at <= #s + 1 do
    if first and not m.anchored then
      local place = find(s, first.text or first.class, at, first.text ~= nil)
      if not place then return nil end
      charge((place - at) // 64)
      at = place
    end
    m.n = 0
    local last = run(m, 1, at)
    if last and last ~= not_at then return at, last end
    if m.anchored then return nil end
    at = at + 1
  end
end

local function capture(m, n)
  local length = m.length[n]
  if not length then raise("unfinished capture") end
  if length == -1 then return m.from[n] end
  return sub(m.s, m.from[n], m.from[n] + length - 1)
end

local function captures(m, first, last, whole)   -- with `whole`: the match itself where there are none
  if m.n == 0 and whole then return sub(m.s, first, last - 1) end
  local list = {}
  for n = 1, m.n do list[n] = capture(m, n) end
  return unpack(list, 1, m.n)
end

local function matcher(compiled, s)
  return { items = compiled.items, anchored = compiled.anchored, first = compiled.first, s = s, n = 0, from = {}, length = {} }
end

-- The functions -----------------------------------------------------------------------------------------------------

local function text(v)
  if type(v) == "number" then return tostring(v) end
  return v
end

local function start(s, init)
  if type(init) ~= "number" then return 1 end
  if init < 0 then init = #s + init + 1 end
  return init < 1 and 1 or init
end

local function found(own, with_places)
  return function(s, p, init, plain)
    s, p = text(s), text(p)
    if type(s) ~= "string" or type(p) ~= "string" then return own(s, p, init, plain) end
    if plain and with_places then return settle(clock(), own(s, p, init, plain)) end
    local compiled = anchoring(p)
    if #s <= compiled.quick then return own(s, p, init, plain) end
    if compiled.plain or own_will_do(compiled, s) then return settle(clock(), own(s, p, init, plain)) end
    local m = matcher(compiled, s)
    local first, last = search(m, start(s, init))
    if not first then return nil end
    if with_places then return first, last - 1, captures(m, first, last) end
    return captures(m, first, last, true)
  end
end

local function all(s, p)             -- an iterator over the captures of each match
  s, p = text(s), text(p)
  if type(s) ~= "string" or type(p) ~= "string" then return gmatch(s, p) end
  local compiled = unanchoring(p)
  if #s <= compiled.quick then return gmatch(s, p) end
  if own_will_do(compiled, s) then
    local own = gmatch(s, p)
    return function() return settle(clock(), own()) end
  end
  local m, at, behind = matcher(compiled, s), 1, nil
  return function()
    local first, last = search(m, at, behind)
    if not first then at = #s + 2 return nil end
    at, behind = last, last
    return captures(m, first, last, true)
  end
end

local function expanded(m, replacement, first, last)
  return (gsub(replacement, "%%(.?)", function(c)
    if c == "%" then return c end
    if c == "0" or c == "1" and m.n == 0 then return sub(m.s, first, last - 1) end
    local n = match(c, "%d") and byte(c) - 48
    if not n then raise("invalid use of '%' in replacement string") end
    if n > m.n then raise("invalid capture index %" .. n .. " in replacement string") end
    return capture(m, n)
  end))
end

local function replaced(m, replacement, first, last)
  local value
  if type(replacement) == "function" then value = replacement(captures(m, first, last, true))
  elseif type(replacement) == "table" then value = replacement[(captures(m, first, last, true))]
  else value = expanded(m, replacement, first, last) end
  if not value then return sub(m.s, first, last - 1) end
  if type(value) ~= "string" and type(value) ~= "number" then raise("invalid replacement value (a " .. type(value) .. ")") end
  return value
end

local function replace(s, p, replacement, most)
  s, p, replacement = text(s), text(p), text(replacement)
  local kind = type(replacement)
  local usable = kind == "string" or kind == "table" or kind == "function"
  if type(s) ~= "string" or type(p) ~= "string" or not usable then return gsub(s, p, replacement, most) end
  local compiled = anchoring(p)
  if #s <= compiled.quick then return gsub(s, p, replacement, most) end
  if own_will_do(compiled, s) then return settle(clock(), gsub(s, p, replacement, most)) end
  local m, pieces, copied, at, behind, n = matcher(compiled, s), {}, 1, 1, nil, 0
  while not most or n < most do
    local first, last = search(m, at, behind)
    if not first then break end
    n = n + 1
    pieces[#pieces + 1] = sub(s, copied, first - 1)
    pieces[#pieces + 1] = replaced(m, replacement, first, last)
    copied, at, behind = last, last, last
    if m.anchored then break end
  end
  pieces[#pieces + 1] = sub(s, copied)
  return concat(pieces), n
end

runtime.patterns = { find = found(find, true), match = found(match, false), gmatch = all, gsub = replace }
return runtime

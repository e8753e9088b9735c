-- Handles -----------------------------------------------------------------------------------------------------------

local special

local function wrap(id)
  local reg = cur.reg                -- by number the handle, by handle the number
  local h = reg[id]
  if not h then
    h = setmetatable({}, handle)
    reg[id], reg[h] = h, id
  end
  return h
end

local function value(v, id, note)    -- what the host gave: a value; or a handle's number, or what to do
  if id == nil then return v end
  if id > 0 then return wrap(id) end
  return special(id, note)
end

local methods = setmetatable({}, { __index = function(t, name)
  local function method(self, ...)
    local lane = cur
    local id = type(self) == "table" and lane.reg[self]
    if not id then
      if rawmeta(self) == handle then gone() end
      raise('methods take a colon: "object:' .. name .. '(...)"')
    end
    make_room(0)
    return value(give(name, lane.call, id, name, ...))
  end
  rawset(t, name, method)
  return method
end })

function special(id, note)
  local lane = cur
  if id == 0 then raise(note) end
  if id == -1 then return methods[note] end
  if id == -2 then return value(await(lane, lane.thread)) end
  if id == -4 then raise("not enough memory") end
  make_room(note // 1024 + SLACK)    -- -3: a large value waits to be taken
  return lane.take()
end

handle.__index = function(t, k)
  local lane = cur
  local id = lane.reg[t]
  if not id then gone() end
  local kind = type(k)
  if kind ~= "string" and kind ~= "number" then raise("an object is indexed by a name or a number, not by a " .. kind) end
  if count("count") >= soft then make_room(0) end
  local v, other, note = lane.fact(id, k)
  if other == nil then return v end
  if other > 0 then return wrap(other) end
  return special(other, note)
end

handle.__newindex = function(t, k, v)
  local lane = cur
  local id = lane.reg[t]
  if not id then gone() end
  local kind = type(k)
  if kind ~= "string" and kind ~= "number" then raise("an object is indexed by a name or a number, not by a " .. kind) end
  make_room(0)
  value(give("an assignment", lane.edit, id, k, v))
end

local function asked(name)
  return function(t)
    local lane = cur
    local id = lane.reg[t]
    if not id then gone() end
    make_room(0)
    return value(lane[name](id))
  end
end
handle.__tostring, handle.__len = asked("text"), asked("length")
handle.__call = asked("advance")     -- for chunk in mail.body:chunks() do

handle.__concat = function(a, b)
  return (rawmeta(a) == handle and tostring(a) or a) .. (rawmeta(b) == handle and tostring(b) or b)
end

handle.__eq = function(a, b)
  local lane = cur
  local left, right = lane.reg[a], lane.reg[b]
  return left and right and lane.same(left, right)
end

local items = asked("items")
handle.__pairs = function(t)
  local list, i = items(t), 0        -- a snapshot: the loop may edit what it walks through
  return function()
    i = i + 1
    local lane = cur
    local id = lane.reg[list]
    if not id then gone() end
    make_room(0)
    local key, v, other, note = lane.pair(id, i)
    return key, value(v, other, note)
  end
end

function lists.__index(t, k)
  if k == "has" then
    return function(list, x)
      for i = 1, rawlen(list) do if list[i] == x then return true end end
      return false
    end
  end
  if type(k) == "string" then raise("a list is indexed by a number, not by \"" .. k .. "\"; ask it with :has(x)") end
end

-- Verdicts ----------------------------------------------------------------------------------------------------------

-- `return deny(...)` is a tail call: were `deny` a Lua function, the frame that knows the line would be gone. A wrapped
-- coroutine is a C function, and those keep their caller's frame. It must not die of bad arguments, so what is wrong
-- with them is told when the hook returns, with the line of the call.
local function verdict(kind)
  local function build(lane, text, options)
    local wrong
    if options ~= nil and (type(options) ~= "table" or rawmeta(options) ~= nil) then
      options, wrong = nil, "options are a table: {code = ...}"
    end
    options = options or {}
    for key in next, options do
      if key ~= "code" and key ~= "relay" then wrong = "no option \"" .. tostring(key) .. "\"" end
    end
    local code, relay = options.code, options.relay
    if not SCALAR[type(code)] then code, wrong = nil, "code must be a string or a number" end
    text = text == nil and "" or tostring(text)
    local info = getinfo(lane.thread, 1, "l")
    return lane.verdict(kind, info and info.currentline or 0, text, code, relay ~= nil and relay ~= false, wrong)
  end
  return cowrap(function(text, options)
    while true do
      local lane = cur
      if lane.loading then
        lane.wrong = lane.wrong or kind .. "() cannot be used while the file is loaded"
        text, options = yield(nil)
      else
        local ok, id = pcall(build, lane, text, options)
        text, options = yield(wrap(ok and id or lane.verdict(kind, 0, "", nil, false, tostring(id))))
      end
    end
  end)
end

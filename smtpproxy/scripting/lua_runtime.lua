-- What runs under every Lua rule: errors, the meter, values on their way out, doors. lua_handles.lua and lua_lanes.lua
-- go on where this file ends: the three are one chunk, loaded without debug information, so that the positions in error
-- messages are the script's own.
--
-- A *lane* is a coroutine that runs one hook call at a time and is used again. A *handle* is an empty table that stands
-- for one object of the host during one call: which one, only `lane.reg` knows, so a script cannot make one up, and one
-- that it kept is dead. Reads and edits are callbacks into the host that touch memory only. Whatever may wait is a
-- *door*: the question is laid down by a callback, then the lane yields to its driver, so that no Lua frame is on the C
-- stack while the host waits.
--
-- Two laws of the binding: only nil, booleans, numbers and strings cross it (a table or a function makes it allocate
-- where an allocation must not fail), and before the host hands over a string there must be room for it (`make_room`).
local CHUNK, FILE, BUDGET, STEP, SECONDS, LIMIT = ...

local yield, create, resume, running = coroutine.yield, coroutine.create, coroutine.resume, coroutine.running
local status, isyieldable, cowrap = coroutine.status, coroutine.isyieldable, coroutine.wrap
local sethook, getinfo, rawmeta = debug.sethook, debug.getinfo, debug.getmetatable
local setmetatable, type, next, select, error, pcall, xpcall = setmetatable, type, next, select, error, pcall, xpcall
local tostring, rawset, rawlen, load, floor = tostring, rawset, rawlen, load, math.floor
local pack, unpack, concat, sub = table.pack, table.unpack, table.concat, string.sub
local clock, count = os.clock, collectgarbage

local MOST_VALUES, MOST_SETTINGS, MOST_DEPTH = 500, 50000, 8
local MOST_CAUGHT = 100
local PER_SECOND = 10000000          -- instructions that a second of C code is charged as
local SLACK = 512                    -- KB kept free for what the host hands over unasked
local SCALAR = { ["nil"] = true, boolean = true, number = true, string = true }
local soft = LIMIT - SLACK           -- KB in use up to which the host may hand over small things
local DOOR = {}                      -- a script's coroutine yields this when it asks a door
local cur                            -- the lane that runs now
local hooks = {}

-- Errors ------------------------------------------------------------------------------------------------------------

local function where()               -- "FILE:LINE: " of the nearest frame of the script
  for level = 2, 40 do
    local info = getinfo(level, "Sl")
    if not info then break end
    if info.source == CHUNK and info.currentline > 0 then return FILE .. ":" .. info.currentline .. ": " end
  end
  return ""
end

local function raise(text) error(where() .. text, 0) end

local function gone() raise("this object belongs to a hook call that has ended") end

-- Meter -------------------------------------------------------------------------------------------------------------

local tick

local function trip(lane)            -- from now on no instruction of the script succeeds, whatever its pcall catches
  lane.left, lane.tripped = 0, true
  sethook(tick, "", 1)
end

local function over() error(where() .. "over its CPU budget of " .. cur.budget .. " instructions", 0) end

function tick()
  local lane = cur
  if not lane.tripped then
    local left, now, since = lane.left - STEP, clock(), lane.since
    lane.left = left
    if not since then lane.since = now since = now end
    if left > 0 and now - since < lane.seconds then return end
    trip(lane)
  end
  if getinfo(2, "S").source == CHUNK then over() end
end

local function charge(n)             -- work that the instruction count does not see
  local lane = cur
  lane.left = lane.left - n
  if lane.left <= 0 then trip(lane) over() end
end

local function settle(since, ...)    -- timed(f)(...): results of a C function, charged by the time it took
  charge(floor((clock() - since) * PER_SECOND))
  return ...
end

local function make_room(kb)
  if count("count") + kb < soft then return end
  count("collect")
  charge(BUDGET // 20)
  if count("count") + kb >= soft then raise("not enough memory") end
end

-- What pcall catches, Lua unwinds in time that grows with the whole depth: nested without end, it would take minutes.
local function caught(lane, depth, ...)
  lane.depth = depth
  if lane.tripped then over() end
  return ...
end

local function guarded(f, ...)       -- pcall
  local lane = cur
  local depth = lane.depth
  if depth == MOST_CAUGHT then raise("pcall nested too deep") end
  lane.depth = depth + 1
  return caught(lane, depth, pcall(f, ...))
end

-- Values that go out ------------------------------------------------------------------------------------------------

local handle, sets, lists = { __metatable = false }, { __metatable = false }, { __metatable = false }

-- (spec, values...): "v" a value, "h" a handle, "[" list "]", "{" key value... "}", "<" set ">"
local function flatten(what, ...)
  local spec, values, n, reg = {}, {}, 0, cur.reg
  local most = what == "settings" and MOST_SETTINGS or MOST_VALUES
  local function scalar(mark, v)
    n = n + 1
    if n > most then raise("too many values for " .. what) end
    values[n], spec[#spec + 1] = v, mark
  end
  local put
  local function put_table(t, depth)
    if depth > MOST_DEPTH then raise("a table too deep for " .. what) end
    local meta, length, keys = rawmeta(t), rawlen(t), 0
    for _ in next, t do
      keys = keys + 1
      if keys > most then raise("too many values for " .. what) end
    end
    if meta == sets then
      spec[#spec + 1] = "<"
      for key in next, t do put(key, depth) end
      spec[#spec + 1] = ">"
    elseif meta == lists or length > 0 and length == keys then
      spec[#spec + 1] = "["
      for i = 1, length do put(t[i], depth) end
      spec[#spec + 1] = "]"
    else
      spec[#spec + 1] = "{"
      for key, value in next, t do
        if not SCALAR[type(key)] then raise("a key of a table for " .. what .. " must be a string or a number") end
        scalar("v", key)
        put(value, depth)
      end
      spec[#spec + 1] = "}"
    end
  end
  function put(v, depth)
    local kind = type(v)
    if SCALAR[kind] then return scalar("v", v) end
    if kind ~= "table" then raise("a " .. kind .. " cannot be given to " .. what) end
    if reg[v] then return scalar("h", reg[v]) end
    if rawmeta(v) == handle then gone() end
    put_table(v, depth + 1)
  end
  for i = 1, select("#", ...) do put((select(i, ...)), 0) end
  return concat(spec), unpack(values, 1, n)
end

local function give(what, host, first, second, ...)  -- host(first, second, spec | nil, values...)
  for i = 1, select("#", ...) do
    if not SCALAR[type((select(i, ...)))] then return host(first, second, flatten(what, ...)) end
  end
  if select("#", ...) > MOST_VALUES then raise("too many values for " .. what) end
  return host(first, second, nil, ...)
end

local function inflate(spec, ...)    -- the other direction, for settings
  local values, n, at = { ... }, 0, 0
  local function get()
    at = at + 1
    local mark = sub(spec, at, at)
    if mark == "v" then n = n + 1 return values[n] end
    local t = {}
    if mark == "[" then
      while sub(spec, at + 1, at + 1) ~= "]" do t[#t + 1] = get() end
      setmetatable(t, lists)
    elseif mark == "<" then
      while sub(spec, at + 1, at + 1) ~= ">" do t[get()] = true end
      setmetatable(t, sets)
    else
      while sub(spec, at + 1, at + 1) ~= "}" do local key = get() t[key] = get() end
    end
    at = at + 1
    return t
  end
  return get()
end

-- Doors -------------------------------------------------------------------------------------------------------------

local function await(lane, thread)   -- the question is laid down: to the driver, and back with its answer
  local v, id, note
  if thread == lane.main then
    v, id, note = yield(0)
    cur, lane.since = lane, nil
  else
    v, id, note = yield(DOOR)
    -- only `pass_up` may wake a coroutine that waits for a door: a script that resumes it cannot pass for the host
    if cur ~= lane or not lane.answered then error("this coroutine was left waiting for a door", 0) end
    lane.answered = nil
  end
  return v, id, note
end

local function pass_up(lane, co, outer, depth, ...)  -- results of resume(co): door questions go up to the driver, answers down
  local r = pack(...)
  while r[1] and r[2] == DOOR do
    lane.thread = outer
    local v, id, note = await(lane, outer)
    lane.thread, lane.answered = co, true
    r = pack(resume(co, v, id, note))
  end
  cur.thread, cur.answered, cur.depth = outer, nil, depth
  return unpack(r, 1, r.n)
end

local cor = { status = status, isyieldable = isyieldable }

function cor.create(f)
  local co = create(f)
  sethook(co, tick, "", STEP)
  return co
end

function cor.resume(co, ...)
  local lane = cur
  local outer = lane.thread
  lane.thread, lane.answered = co, nil
  return pass_up(lane, co, outer, lane.depth, resume(co, ...))
end

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

function cor.wrap(f)
  local co = cor.create(f)
  return function(...) return unwrap(cor.resume(co, ...)) end
end

function cor.yield(...)
  if cur.thread == cur.main then raise("coroutine.yield outside of a coroutine") end
  return yield(...)
end

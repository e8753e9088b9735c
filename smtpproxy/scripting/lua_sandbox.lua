-- What a Lua rule finds: the library without its dangerous parts, our words, its settings.
local runtime, CHUNK, suggest, settle_settings, settings = ...

local raise, settle, flatten, inflate = runtime.raise, runtime.settle, runtime.flatten, runtime.inflate
local setmetatable, rawmeta, type, next, pairs, select = setmetatable, debug.getmetatable, type, next, pairs, select
local rawget, rawset, rawlen, load, tostring = rawget, rawset, rawlen, load, tostring
local clock, getinfo, gmatch, match, concat = os.clock, debug.getinfo, string.gmatch, string.match, table.concat

local LONG, MANY = 2048, 512         -- from here on a C function's time is charged, see settle()
local MOST, MOST_RESULTS = 1000000, 5000  -- elements that one C function may walk over, or return

local function copy(t, without)
  local r = {}
  for k, v in pairs(t) do if not without[k] then r[k] = v end end
  return r
end

local function timed_text(f)         -- cost grows with the first argument
  return function(s, ...)
    if type(s) ~= "string" or #s < LONG then return f(s, ...) end
    return settle(clock(), f(s, ...))
  end
end

local function timed_always(f)
  return function(...) return settle(clock(), f(...)) end
end

local function timed_table(f, span, most)  -- cost grows with the span of elements, which `#t` may lie about
  return function(t, ...)
    if type(t) ~= "table" then return f(t, ...) end
    local n = span(t, ...)
    if n < MANY then return f(t, ...) end
    if n > most then raise("too many elements") end
    return settle(clock(), f(t, ...))
  end
end

local function number(v, default)
  if type(v) == "number" then return v end
  return default
end

local str = copy(string, { dump = true })
for _, name in next, { "lower", "upper", "reverse", "sub", "byte", "len", "unpack" } do str[name] = timed_text(string[name]) end
for _, name in next, { "rep", "format", "pack" } do str[name] = timed_always(string[name]) end

for name, f in next, runtime.patterns do str[name] = f end

local function whole(t) return #t end
local function range(t, i, j) return number(j, #t) - number(i, 1) + 1 end
local tab = copy(table, {})
for _, name in next, { "sort", "insert", "remove" } do tab[name] = timed_table(table[name], whole, MOST) end
tab.concat = timed_table(table.concat, function(t, _, i, j) return range(t, i, j) end, MOST)
tab.unpack = timed_table(table.unpack, range, MOST_RESULTS)
tab.move = timed_table(table.move, function(_, first, last) return number(last, 0) - number(first, 0) end, MOST)

local utf = copy(utf8, {})
for _, name in next, { "len", "codepoint", "offset" } do utf[name] = timed_text(utf8[name]) end

local base = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = runtime.pcall, select = select,
  type = type, tonumber = timed_text(tonumber),
  tostring = tostring, string = str, table = tab, math = copy(math, { randomseed = true }),
  utf8 = utf, coroutine = runtime.coroutine, together = runtime.together, _VERSION = _VERSION,
}
for _, kind in next, { "accept", "deny", "defer", "close" } do base[kind] = runtime.verdict(kind) end

function base.setmetatable(t, meta)  -- finalizers run unmetered
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then raise("__gc is not allowed") end
  return setmetatable(t, meta)
end

function base.getmetatable(t)
  local meta = rawmeta(t)
  if type(meta) ~= "table" then return nil end
  local shown = rawget(meta, "__metatable")
  if shown ~= nil then return shown end
  return meta
end

function base.set(t)
  if type(t) ~= "table" then raise("set takes a list: set{...}") end
  local r = {}
  for _, v in next, t do r[v] = true end
  return setmetatable(r, runtime.sets)
end

local timers = {}

function base.every(interval, f, options)
  if not runtime.loading() then raise("every() stands at the top of a file; a hook cannot add one") end
  if type(f) ~= "function" or type(interval) ~= "string" then raise('every takes an interval and a function: every("5m", f)') end
  if options ~= nil and type(options) ~= "table" then raise("options are a table: {once = true}") end
  for key in next, options or {} do
    if key ~= "once" then raise("no option \"" .. tostring(key) .. "\"") end
  end
  timers[#timers + 1] = { interval = interval, once = options and options.once and true or false, run = f }
end

local string_meta = rawmeta("")
string_meta.__index, string_meta.__metatable = str, false

local M = {}
local env

local function did_you_mean(name, t)
  runtime.make_room(64)
  return suggest(tostring(name), M.known(t))
end

function M.known(t)
  local names = {}
  for name in next, t do names[#names + 1] = tostring(name) end
  return concat(names, " ")
end

local questions = {}                 -- by the word before the table's name

local function of_tables(title, question, door)  -- users.NAME.exists(...): the door is told the name first
  local known = questions[title]
  if known == nil then
    known = {}
    questions[title] = known
    base[title] = setmetatable({}, { __metatable = false, __index = function(_, name)
      local t = {}
      for key, ask in next, known do t[key] = function(...) return ask(tostring(name), ...) end end
      return setmetatable(t, { __metatable = false, __index = function(t, key)
        raise(title .. "." .. tostring(name) .. " has no \"" .. tostring(key) .. "\"" .. did_you_mean(key, t))
      end })
    end })
  end
  known[question] = door
end

function M.define(path, index)       -- the door number `index` as dns.mx(...)
  local of, question = match(path, "^([%w_]+)%.%*%.([%w_]+)$")
  if of then return of_tables(of, question, runtime.door(path, index)) end
  local t, title = base, nil
  for name in gmatch(path, "([%w_]+)%.") do
    title = name
    if rawget(t, name) == nil then
      t[name] = setmetatable({}, { __metatable = false, __index = function(namespace, key)
        raise(title .. " has no \"" .. tostring(key) .. "\"" .. did_you_mean(key, namespace))
      end })
    end
    t = t[name]
  end
  t[match(path, "[%w_]+$")] = runtime.door(path, index)
end

local function effective(...)        -- what the script declares, with what the configuration says instead
  runtime.make_room(64)
  local octets, wrong = settle_settings(...)
  if wrong then raise(wrong) end
  runtime.make_room(octets // 1024 + 64)
  return settings()
end

local function settings_of(spec, ...)
  local t = inflate(spec, ...)
  return setmetatable(t, { __metatable = false, __index = function(_, key)
    raise("settings has no \"" .. tostring(key) .. "\"" .. did_you_mean(key, t))
  end })
end

function M.load(source)              -- hooks as "name:line name:line"; or nil, message, frames, over budget
  env = copy(base, {})
  env._G = env
  setmetatable(env, {
    __metatable = false,
    __index = function(_, key)
      if key == "settings" then raise("the file declares no settings: settings = { name = default }") end
      return runtime.object(key)
    end,
    __newindex = function(t, key, v)
      if key == "settings" then
        if type(v) ~= "table" then raise("settings must be a table") end
        v = settings_of(effective(flatten("settings", v)))
      end
      rawset(t, key, v)
    end,
  })
  local f, message = load(source, CHUNK, "t", env)
  if not f then return nil, message, "", false end
  local wrong, frames, tripped = runtime.load(f)
  if wrong then return nil, wrong, frames or "", tripped or false end
  return M.hooks()
end

function M.hooks()
  local found, declarations = {}, { on_error = true, on_timeout = true }
  for name, f in next, env do
    if type(name) == "string" and (match(name, "^on_") or match(name, "^watch_")) and not declarations[name] then
      if type(f) ~= "function" then return nil, name .. " must be a function, not a " .. type(f), "", false end
      found[#found + 1] = name .. ":" .. getinfo(f, "S").linedefined
      runtime.hook(#found, name, f)
    end
  end
  for _, timer in next, timers do
    found[#found + 1] = "every:" .. getinfo(timer.run, "S").linedefined
    runtime.hook(#found, "every", timer.run)
  end
  return concat(found, " ")
end

function M.timer(index)              -- the interval of a timer, and whether one process only runs it
  return timers[index].interval, timers[index].once
end

function M.get(name)                 -- a global of the script, flattened
  local v = rawget(env, name)
  if v ~= nil then return flatten(name, v) end
end

M.share = runtime.share

function M.names() return M.known(base) end

return M

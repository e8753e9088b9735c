-- Lanes -------------------------------------------------------------------------------------------------------------

local function place(co, level, name, main)
  local info = co and getinfo(co, level, "Slnf") or not co and getinfo(level, "Slnf")
  if not info then return end
  if info.source ~= CHUNK then return "" end
  local title = info.what == "main" and "the file" or info.func == main and name or info.name or "a function"
  return FILE .. ":" .. info.currentline .. " in " .. title
end

local function frames(co, name, main)  -- the script's frames, innermost first, a line each
  local lines = {}
  for level = co and 0 or 3, 60 do
    local line = place(co, level, name, main)
    if not line then break end
    if line ~= "" then lines[#lines + 1] = line end
  end
  return concat(lines, "\n")
end

local function text_of(e)
  if type(e) == "string" then return e end
  if type(e) == "number" then return tostring(e) end
  return "the error is a " .. type(e) .. ", not a text"
end

local function failed(e)
  local lane = cur
  lane.frames = frames(nil, lane.name, lane.hook)
  return text_of(e)
end

local function arguments(lane, n)
  if n < 0 then make_room(0) end
  if n == 1 then return wrap(1) end
  if n == 2 then return wrap(1), wrap(2) end
  local list = {}
  for i = 1, n < 0 and -n or n do
    if n < 0 then list[i] = value(lane.plain(i)) else list[i] = wrap(i) end
  end
  return unpack(list, 1, n < 0 and -n or n)
end

local NOTHING = {}

local function ended(lane, ok, v)    -- () nothing, (id) a handle, (false, text, frames, tripped) a failure
  local reg = lane.reg
  lane.reg, lane.hook = NOTHING, nil
  if lane.tripped then
    sethook(tick, "", STEP)
    return yield(false, ok and "over its CPU budget" or v, lane.frames or "", true)
  end
  if not ok then return yield(false, type(v) == "string" and v or "not enough memory", lane.frames or "", false) end
  if v == nil then return yield() end
  if type(v) == "table" and reg[v] then return yield(reg[v]) end
  return yield(false, lane.name .. " returned a " .. type(v) .. ", not a verdict", "", false)
end

local M = {}

function M.serve(limit, fact, edit, call, ask, take, plain, text, length, items, pair, advance, same, verdict, shared_at,
    gather, park, join, settled, scatter)
  soft = limit - SLACK
  local lane = { fact = fact, edit = edit, call = call, ask = ask, take = take, plain = plain, text = text, length = length,
    items = items, pair = pair, advance = advance, same = same, verdict = verdict, shared = shared_at, main = running(),
    gather = gather, park = park, join = join, settled = settled, scatter = scatter }
  sethook(tick, "", STEP)
  local index, n, cpu = yield()
  while true do
    cur = lane
    lane.budget, lane.seconds = BUDGET, SECONDS
    if cpu then lane.budget, lane.seconds = floor(BUDGET * cpu / SECONDS), cpu end
    lane.thread, lane.left, lane.reg, lane.depth = lane.main, lane.budget, {}, 0
    lane.since, lane.tripped, lane.frames, lane.answered = nil, nil, nil, nil
    local hook = hooks[index]
    lane.hook, lane.name = hook.run, hook.name
    index, n, cpu = ended(lane, xpcall(hook.run, failed, arguments(lane, n)))
  end
end

-- Loading -----------------------------------------------------------------------------------------------------------

function M.load(f)                   -- run the file's own code, metered; nil, or message, frames, tripped
  local co = create(f)
  local lane = { reg = {}, left = BUDGET, budget = BUDGET, seconds = SECONDS, depth = 0, main = co, thread = co, loading = true }
  cur = lane
  sethook(co, tick, "", STEP)
  local ok, message = resume(co)
  if lane.tripped or not ok then return text_of(message), frames(co, "", nil), lane.tripped or false end
  return lane.wrong
end

function M.door(path, index)         -- the door number `index` as a function
  return function(...)
    local lane = cur
    if lane.loading then raise(path .. " cannot be asked while the file is loaded") end
    make_room(0)
    return value(give(path, lane.ask, index, path, ...))
  end
end

local shared = {}

function M.share(name, index) shared[name] = index end

function M.object(name)              -- an object of the host that is there in every call
  local lane, index = cur, shared[name]
  if index == nil then return nil end
  if lane.loading then raise(name .. " cannot be used while the file is loaded") end
  return value(lane.shared(index))
end

function M.loading() return cur.loading end

function M.hook(index, name, f)
  hooks[index] = { name = name, run = f }
end

M.make_room, M.raise, M.charge, M.settle, M.flatten, M.inflate = make_room, raise, charge, settle, flatten, inflate
M.together, M.pcall, M.verdict, M.coroutine, M.sets, M.lists, M.handle = together, guarded, verdict, cor, sets, lists, handle
return M

-- together() --------------------------------------------------------------------------------------------------------

-- Each function is a coroutine. What they ask is laid aside (`park`), and all of it asked at the same time by one door
-- (`join`), whose answer is the number of the function that may go on.
local function together(...)
  local lane, n = cur, select("#", ...)
  if lane.loading then raise("together() cannot be used while the file is loaded") end
  local cos, results, unfinished = {}, {}, n
  for i = 1, n do
    local f = select(i, ...)
    if type(f) ~= "function" then raise("together takes functions, not a " .. type(f)) end
    cos[i] = cor.create(f)
  end
  local outer, depth, group = lane.thread, lane.depth, lane.gather()

  local function go_on(i, woken, ...)
    lane.thread, lane.answered = cos[i], woken
    local r = pack(resume(cos[i], ...))
    lane.thread, lane.answered, lane.depth = outer, nil, depth
    if r[1] and r[2] == DOOR then return lane.park(group, i) end
    if not r[1] then
      lane.scatter(group)
      error(r[2], 0)
    end
    if status(cos[i]) ~= "dead" then
      lane.scatter(group)
      raise("a function of together() yielded")
    end
    results[i], unfinished = r[2], unfinished - 1
  end

  for i = 1, n do go_on(i) end
  while unfinished > 0 do
    make_room(0)
    lane.join(group)
    local i = await(lane, outer)
    make_room(0)
    go_on(i, true, lane.settled(group, i))
  end
  return unpack(results, 1, n)
end

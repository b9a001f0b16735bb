-- One exchange of a holder with one budget: the arithmetic of arithmetic.py on a Redis hash.
-- KEYS[1]  the budget, a hash with the fields: n the latest time, l the level of a token bucket,
--          w and u a fixed window and the tokens used in it, s:SLOT the tokens spent in a slot of a
--          sliding window, h:HOLDER a lease as "tokens expires sequence".
-- ARGV     algorithm, rate, unit, capacity, holder, sequence, held, returned, want, lifetime, slots,
--          time in microseconds (for tests; empty: the server's time).
-- Returns  tokens, free, wait, reset, lifetime.
local key = KEYS[1]
local algorithm, holder = ARGV[1], ARGV[5]
local rate, unit, capacity = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local sequence, held, returned = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local want, lifetime, slots = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local now = tonumber(ARGV[12])
if now == nil then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function integer(number)  -- tostring rounds above 10^14
  return string.format('%.0f', number)
end

local last, level, window, used = now, capacity * unit, math.floor(now / unit), 0
local width = math.max(1, math.floor(unit / slots))
local spent, total, changed, leases, leased, deleted = {}, 0, {}, {}, 0, {}

local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  local kind = string.sub(name, 1, 2)
  if name == 'l' then level = tonumber(value)
  elseif name == 'n' then last = tonumber(value)
  elseif name == 'w' then window = tonumber(value)
  elseif name == 'u' then used = tonumber(value)
  elseif kind == 's:' then
    local slot = tonumber(string.sub(name, 3))
    spent[slot] = tonumber(value)
    total = total + spent[slot]
  elseif kind == 'h:' then
    local tokens, expires, number = string.match(value, '(%d+) (%d+) (%d+)')
    leases[string.sub(name, 3)] = {tonumber(tokens), tonumber(expires), tonumber(number)}
    leased = leased + tonumber(tokens)
  end
end
now = math.max(now, last)

local function slot_end(slot)
  return (slot + 1) * width + unit
end

local function spend(tokens)
  if tokens > 0 then
    local slot = math.floor(last / width)
    spent[slot] = (spent[slot] or 0) + tokens
    total = total + tokens
    changed[slot] = true
  end
end

local function move(time)
  if algorithm == 'token_bucket' then
    level = math.min((capacity - leased) * unit, level + rate * (time - last))
  elseif algorithm == 'fixed_window' then
    if math.floor(time / unit) ~= window then
      window = math.floor(time / unit)
      used = 0
    end
  else
    for slot, tokens in pairs(spent) do
      if slot_end(slot) <= time then
        total = total - tokens
        spent[slot] = nil
        deleted[#deleted + 1] = 's:' .. integer(slot)
      end
    end
  end
  last = time
end

local function settle(change, returned)
  leased = leased + change
  if algorithm == 'token_bucket' then
    level = level + returned * unit - math.max(0, change) * unit
  elseif algorithm == 'fixed_window' then
    used = used - returned + math.max(0, change)
  else
    spend(-change - returned)
  end
end

local function free()
  if algorithm == 'token_bucket' then return math.max(0, math.floor(level / unit)) end
  if algorithm == 'fixed_window' then return math.max(0, rate - used) end
  return math.max(0, rate - total - leased)
end

local function wait(tokens)
  if algorithm == 'token_bucket' then
    return math.max(0, -math.floor((level - tokens * unit) / rate))
  end
  local missing = tokens - free()
  if missing <= 0 then return 0 end
  if algorithm == 'fixed_window' then return (window + 1) * unit - last end
  local order = {}
  for slot in pairs(spent) do order[#order + 1] = slot end
  table.sort(order)
  for _, slot in ipairs(order) do
    missing = missing - spent[slot]
    if missing <= 0 then return slot_end(slot) - last end
  end
  return unit
end

local function reset()
  if algorithm == 'token_bucket' then return wait(capacity) end
  if algorithm == 'fixed_window' then return (window + 1) * unit - last end
  local newest = nil
  for slot in pairs(spent) do newest = math.max(newest or slot, slot) end
  return newest and slot_end(newest) - last or 0
end

local expired = {}
for name, lease in pairs(leases) do
  if lease[2] <= now then expired[#expired + 1] = {lease[2], name} end
end
table.sort(expired, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
for _, e in ipairs(expired) do
  move(e[1])
  settle(-leases[e[2]][1], 0)
  leases[e[2]] = nil
  deleted[#deleted + 1] = 'h:' .. e[2]
end
move(now)

local lease = leases[holder]
if lease and sequence <= lease[3] then return {0, free(), wait(1), reset(), 0} end
local recorded = lease and lease[1] or 0
returned = math.min(returned, math.max(0, recorded - held))
settle(held - recorded, returned)
local tokens = math.min(want, free())
local expires = now + lifetime
if algorithm == 'fixed_window' then expires = math.min(expires, (window + 1) * unit) end
leased = leased + tokens
if algorithm == 'token_bucket' then level = level - tokens * unit end
if algorithm == 'fixed_window' then used = used + tokens end

if #deleted > 0 then redis.call('HDEL', key, unpack(deleted)) end
local set = {'n', integer(now)}
local function put(name, value) set[#set + 1] = name; set[#set + 1] = value end
if algorithm == 'token_bucket' then put('l', integer(level))
elseif algorithm == 'fixed_window' then put('w', integer(window)); put('u', integer(used))
else
  for slot in pairs(changed) do
    if spent[slot] then put('s:' .. integer(slot), integer(spent[slot])) end
  end
end
if held + tokens > 0 then
  put('h:' .. holder, integer(held + tokens) .. ' ' .. integer(expires) .. ' ' .. integer(sequence))
elseif lease then
  redis.call('HDEL', key, 'h:' .. holder)
end
redis.call('HSET', key, unpack(set))
-- When all tokens are free and all leases have expired, the budget is like a new one: Redis may drop it.
local longest = expires
for _, l in pairs(leases) do longest = math.max(longest, l[2]) end
redis.call('PEXPIRE', key, integer(math.ceil((reset() + unit + longest - now) / 1000) + 1))
return {tokens, free(), wait(1), reset(), expires - now}

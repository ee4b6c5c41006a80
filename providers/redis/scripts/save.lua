-- Stores a record if its condition holds. Nothing is written before every
-- check has passed, so that a script that fails has changed nothing.
--
-- KEYS  record, mark, index, staged
-- ARGV  1 "absent", "always" or the head that must be stored
--       2 the mark that the writer saw, empty for none
--       3 the value, empty if it is the staged one; a head and an expiry alone are a
--         tombstone
--       4 the life in milliseconds, -1 for ever
--       5 the partition, 6 the channel, 7 what to tell it, and then the head that was replaced
-- Returns 0 saved, 1 conflict, 2 removed, 3 nothing is staged
local HEAD, EMPTY = 17, 25
local value, life = ARGV[3], tonumber(ARGV[4])
local tombstone, staged = #value == EMPTY, value == ''

local function refuse(answer)
  if staged then redis.call('DEL', KEYS[4]) end
  return answer
end

local mark = redis.call('GET', KEYS[2])
if mark and mark ~= ARGV[2] and not tombstone then return refuse(2) end

-- A key of another type is something, and nobody's version: no string.
local head = redis.pcall('GETRANGE', KEYS[1], 0, HEAD - 1)
if ARGV[1] == 'absent' then
  if head ~= '' then return refuse(1) end
elseif ARGV[1] ~= 'always' and head ~= ARGV[1] then
  return refuse(1)
end
if staged and redis.call('EXISTS', KEYS[4]) == 0 then return 3 end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local change = ARGV[7] .. (type(head) == 'string' and head or '')

-- When the memory is full, the first write of a script is refused if it needs
-- more, and nothing after it. So a record begins with the write that needs some,
-- and a tombstone with one that does not: users can still sign out. An access list
-- without the channel, as it is where nothing else is said, refuses a save too. Of
-- what is refused nobody must hear: so a tombstone first removes what no partition
-- is called, which a server that cannot write refuses.
if tombstone or life == 0 then
  redis.call('ZREM', KEYS[3], '')
  redis.call('PUBLISH', ARGV[6], change)
  redis.call('ZREM', KEYS[3], ARGV[5])
else
  local added = redis.pcall('ZADD', KEYS[3], life < 0 and '+inf' or now + life, ARGV[5])
  if type(added) == 'table' then return refuse(added) end
  local told = redis.pcall('PUBLISH', ARGV[6], change)
  if type(told) == 'table' then
    if head == '' then redis.call('ZREM', KEYS[3], ARGV[5]) end
    return refuse(told)
  end
end
-- What has expired leaves the index, and the index goes with its last member.
-- Mostly there is only the one that was added.
if life > 0 and not tombstone and redis.call('ZCARD', KEYS[3]) == 1 then
  redis.call('PEXPIREAT', KEYS[3], now + life)
else
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
  if last == 'inf' then
    redis.call('PERSIST', KEYS[3])
  elseif last then
    redis.call('PEXPIREAT', KEYS[3], last)
  end
end
if staged then
  redis.call('RENAME', KEYS[4], KEYS[1])
  if life < 0 then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], life) end
elseif life == 0 then
  redis.call('DEL', KEYS[1])
elseif life < 0 then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', life)
end
return 0

-- Changes the expiry of a record that has the version.
--
-- KEYS  record, index
-- ARGV  1 the head that must be stored, 2 the new expiry as in the value
--       3 the life in milliseconds, -1 for ever, 4 the partition
-- Returns 0 done, 1 conflict, 2 not found
local EMPTY = 25
local life = tonumber(ARGV[3])

local head = redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1)
if head == '' then return 2 end
if head ~= ARGV[1] then return 1 end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As in a save. Before everything else, as an index that is none fails here.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
-- No write before SETRANGE needs memory, so that it works when there is none.
if life == 0 then
  redis.call('ZREM', KEYS[2], ARGV[4])
  redis.call('DEL', KEYS[1])
else
  if life < 0 then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], life) end
  redis.call('SETRANGE', KEYS[1], #ARGV[1], ARGV[2])
  if redis.call('STRLEN', KEYS[1]) > EMPTY then
    redis.call('ZADD', KEYS[2], life < 0 and '+inf' or now + life, ARGV[4])
  end
end
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', KEYS[2])
elseif last then
  redis.call('PEXPIREAT', KEYS[2], last)
end
return 0

-- Sets an owner's removal mark, also when the memory is full: only the first
-- write of a script is refused, and deleting never is.
--
-- KEYS  mark
-- ARGV  1 the mark, 2 its life in milliseconds, -1 for ever
local life = tonumber(ARGV[2])
redis.call('DEL', KEYS[1])
if life < 0 then
  redis.call('SET', KEYS[1], ARGV[1])
elseif life > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', life)
end
return 0

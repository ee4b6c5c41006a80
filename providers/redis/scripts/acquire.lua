-- Takes a lease. Its holder may ask again.
--
-- KEYS  lease
-- ARGV  1 the holder's random value, 2 the life in milliseconds
-- Returns 1 taken, 0 held by another
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

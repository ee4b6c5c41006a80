-- Gives a lease back if it is still its holder's.
--
-- KEYS  lease
-- ARGV  1 the holder's random value
-- Returns 1 given back, 0 lost
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])

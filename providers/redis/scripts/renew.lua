-- Extends a lease that is still its holder's.
--
-- KEYS  lease
-- ARGV  1 the holder's random value, 2 the life in milliseconds
-- Returns 1 extended, 0 lost
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

"""What Redis does in one step, so that no other client comes in between."""

REPLACE = """
    local kept = ''
    if redis.call('TYPE', KEYS[1]).ok == 'string' then kept = '=' .. redis.call('GET', KEYS[1]) end
    if kept ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then
        redis.call('DEL', KEYS[1])
    else
        redis.call('SET', KEYS[1], string.sub(ARGV[2], 2), 'PX', ARGV[3])
    end
    return 1
"""
"""Replace the value of a key if it is still ARGV[1]: '' for nothing (or no string), else '=' and the bytes."""

RENEW = """
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    return 0
"""
"""Prolong a lease that is still ours. It works in a full Redis, too, because it needs no memory."""

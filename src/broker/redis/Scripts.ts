/**
 * The scripts that move hints. Each is atomic, takes its time from the server (`TIME`), touches only keys that it was
 * given (legal on Redis Cluster), and does a bounded amount of work besides the items it was asked about.
 *
 * The `#!lua` line (Redis 7, Valkey) makes the server check undeclared keys in a cluster, and refuse `publish` up front
 * when memory is full; `allow-oom` lets everything else go on, so that workers drain a full server.
 */
import { createHash } from "node:crypto"
import { KEYS_PER_QUEUE } from "./Keys.ts"
import { LUA_PARSE } from "./Message.ts"

/** A script and the hash that Redis caches it under. */
export interface Script {
  readonly name: string
  readonly lua: string
  readonly sha: string
}

/** Entries that one claim moves from `delayed`, and from expired leases, to `ready`: the rest waits for the next one. */
export const PROMOTE_AT_MOST = 200

/**
 * Shared by all. `queue(index)` names the keys of the queue with this index. A score in `ready` is the priority above 42
 * bits of milliseconds (until the year 2109): priority first, then time, then job id, which is time again for UUIDv7.
 */
const PRELUDE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function queue(index)
  local k = index * ${KEYS_PER_QUEUE}
  return { ready = KEYS[k + 1], leases = KEYS[k + 2], delayed = KEYS[k + 3], hints = KEYS[k + 4],
    tokens = KEYS[k + 5], deliveries = KEYS[k + 6], wake = KEYS[k + 7] }
end${LUA_PARSE}local function ring(q) redis.call('ZADD', q.wake, 0, '0') end
local function ready(q, id, priority) redis.call('ZADD', q.ready, priority * 4398046511104 + now, id) end
`

/** For scripts about deliveries. ARGV: a number, then (queue index, job id, token, message) per item; answers 0 or 1 each. */
const EACH_DELIVERY = `
local out = {}
local number = tonumber(ARGV[1])
for i = 2, #ARGV, 4 do
  local q, id, token, message = queue(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local owned = redis.call('HGET', q.tokens, id) == token
  out[#out + 1] = owned and deliver(q, id, message, number) or 0
end
return out`

const script = (name: string, flags: string, body: string): Script => {
  const lua = `#!lua${flags}${PRELUDE}${body.trim()}`
  return { name, lua, sha: createHash("sha1").update(lua).digest("hex") }
}

/**
 * Makes hints receivable. ARGV: (queue index, job id, message) per hint.
 *
 * One hint per job, the newest by (attempt, publication). One that is already known changes nothing. A newer attempt
 * supersedes a delivery in somebody's hands: that is about the past. A newer publication of the same attempt waits for
 * the end of the delivery, and outlives its ack.
 */
export const publish = script(
  "publish",
  "",
  `
local rung = {}
for i = 1, #ARGV, 3 do
  local q, id, message = queue(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local attempt, publication, priority = parse(id, message)
  local knownAttempt, knownPublication = parse(id, redis.call('HGET', q.hints, id))
  local waiting = knownAttempt and redis.call('ZSCORE', q.ready, id)
  local delayed = knownAttempt and not waiting and redis.call('ZSCORE', q.delayed, id)
  local leased = knownAttempt and not waiting and not delayed and redis.call('ZSCORE', q.leases, id)
  local here = waiting or delayed or leased
  local supersedes = not here or tonumber(attempt) > tonumber(knownAttempt)
  local again = here and attempt == knownAttempt and tonumber(publication) > tonumber(knownPublication)
  if supersedes or again then
    redis.call('HSET', q.hints, id, message)
    if supersedes or not leased then
      if leased then
        redis.call('ZREM', q.leases, id)
        redis.call('HDEL', q.tokens, id)
      end
      if supersedes and knownAttempt then redis.call('HDEL', q.deliveries, id) end
      if delayed then redis.call('ZREM', q.delayed, id) end
      if not waiting or math.floor(waiting / 4398046511104) ~= tonumber(priority) then ready(q, id, priority) end
      if not rung[q.wake] then
        rung[q.wake] = true
        ring(q)
      end
    end
  end
end
return 1`
)

/**
 * Takes up to a number of ready hints for a lease, from the queues in the order of the keys. ARGV: token, how many, lease
 * in ms. Answers: ms until something falls due (-1: nothing will), how many entries were dropped because they were no
 * hints of ours, then (queue index, job id, message, delivery count) per hint.
 */
export const claim = script(
  "claim",
  " flags=allow-oom",
  `
local token, left, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local dropped, soonest, out = 0, nil, { -1, 0 }
local function drop(q, id)
  redis.call('HDEL', q.hints, id)
  redis.call('HDEL', q.deliveries, id)
  dropped = dropped + 1
end
local function promote(q, from)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', now, 'LIMIT', 0, ${PROMOTE_AT_MOST})) do
    redis.call('ZREM', from, id)
    if from == q.leases then redis.call('HDEL', q.tokens, id) end
    local _, _, priority = parse(id, redis.call('HGET', q.hints, id))
    if priority then ready(q, id, priority) else drop(q, id) end
  end
  local first = redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')[2]
  if first and (not soonest or tonumber(first) < soonest) then soonest = tonumber(first) end
end
for index = 0, #KEYS / ${KEYS_PER_QUEUE} - 1 do
  local q = queue(index)
  promote(q, q.delayed)
  promote(q, q.leases)
  local popped = left > 0 and redis.call('ZPOPMIN', q.ready, left) or {}
  for i = 1, #popped, 2 do
    local id = popped[i]
    local message = redis.call('HGET', q.hints, id)
    if parse(id, message) then
      redis.call('ZADD', q.leases, now + lease, id)
      redis.call('HSET', q.tokens, id, token)
      out[#out + 1] = index
      out[#out + 1] = id
      out[#out + 1] = message
      out[#out + 1] = redis.call('HINCRBY', q.deliveries, id, 1)
      left = left - 1
      if not soonest or now + lease < soonest then soonest = now + lease end
    else
      drop(q, id)
    end
  end
  if redis.call('ZCARD', q.ready) > 0 then ring(q) else redis.call('DEL', q.wake) end
end
if soonest then out[1] = math.max(1, soonest - now) end
out[2] = dropped
return out`
)

/** Removes delivered hints; one that was published again meanwhile becomes ready instead. The number is not used. */
export const ack = script(
  "ack",
  " flags=allow-oom",
  `
local function deliver(q, id, message)
  redis.call('ZREM', q.leases, id)
  redis.call('HDEL', q.tokens, id)
  redis.call('HDEL', q.deliveries, id)
  local kept = redis.call('HGET', q.hints, id)
  local _, _, priority = parse(id, kept)
  if kept == message or not priority then
    redis.call('HDEL', q.hints, id)
  else
    ready(q, id, priority)
    ring(q)
  end
  return 1
end
${EACH_DELIVERY}`
)

/**
 * Makes delivered hints receivable after a delay in ms. It rings in any case: whoever waits must learn that something
 * falls due earlier than they think.
 */
export const release = script(
  "release",
  " flags=allow-oom",
  `
local function deliver(q, id, message, delay)
  redis.call('ZREM', q.leases, id)
  redis.call('HDEL', q.tokens, id)
  local kept = redis.call('HGET', q.hints, id)
  local _, _, priority = parse(id, kept)
  if not priority then
    redis.call('HDEL', q.deliveries, id)
    return 1
  end
  if delay > 0 and kept == message then
    redis.call('ZADD', q.delayed, now + delay, id)
  else
    ready(q, id, priority)
  end
  ring(q)
  return 1
end
${EACH_DELIVERY}`
)

/** Extends leases that have not ended, to a number of ms from now. */
export const extend = script(
  "extend",
  " flags=allow-oom",
  `
local function deliver(q, id, _, lease)
  local ends = redis.call('ZSCORE', q.leases, id)
  if not ends or tonumber(ends) <= now then return 0 end
  redis.call('ZADD', q.leases, now + lease, id)
  return 1
end
${EACH_DELIVERY}`
)

/** Counts what waits in one queue: ready, delayed, and deliveries whose lease has ended. */
export const depth = script(
  "depth",
  " flags=no-writes",
  `
local q = queue(0)
return redis.call('ZCARD', q.ready) + redis.call('ZCARD', q.delayed) + redis.call('ZCOUNT', q.leases, '-inf', now)`
)

/** All of them. */
export const all: ReadonlyArray<Script> = [publish, claim, ack, release, extend, depth]

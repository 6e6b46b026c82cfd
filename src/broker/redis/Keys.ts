/**
 * The keys of one queue in Redis. All keys of a deployment share one hash tag, `{prefix}`: they live in one slot of a
 * Redis Cluster, so one script and one blocking wait may span queues; and two deployments with different prefixes never
 * meet on one server. No key has a time to live, so no `volatile-*` policy can evict one.
 */

/**
 * What is kept of a queue, in the order in which scripts take their keys:
 *
 * - `ready`: sorted set of job ids by priority, then time; `leases`: by the end of the lease; `delayed`: by due time
 * - `hints`: hash of job id to the encoded hint; `tokens`: to the token of who holds it; `deliveries`: to how often
 * - `wake`: sorted set with one marker while there may be something to look at; consumers block on it
 */
const PARTS = ["ready", "leases", "delayed", "hints", "tokens", "deliveries", "wake"] as const

/** How many keys a queue has; scripts step over their keys by it. */
export const KEYS_PER_QUEUE = PARTS.length

/** The keys of a deployment's queues. */
export interface Keys {
  /** All keys of these queues, `KEYS_PER_QUEUE` each, in order. */
  readonly of: (queues: ReadonlyArray<string>) => ReadonlyArray<string>
  /** The key that consumers of this queue block on. */
  readonly wake: (queue: string) => string
}

/** The part comes last, so a queue may have any name. */
export const make = (prefix: string): Keys => ({
  of: (queues) => queues.flatMap((queue) => PARTS.map((part) => `{${prefix}}:${queue}:${part}`)),
  wake: (queue) => `{${prefix}}:${queue}:wake`
})

/**
 * Which pgmq queue carries the hints of which Polyqueue queue: one each, so that a backlog nobody here works on costs a
 * reader nothing, and so that counting, purging and dropping a queue touch that queue alone. pgmq reads its queues from
 * the front and has no index to skip what is for somebody else: one shared queue would be walked through at every read.
 *
 * The mapping is injective: two Polyqueue queues, or two installations with different base names, never share one.
 */
import { createHash } from "node:crypto"

/** pgmq's own limit: a table, an index and a partition template have to fit an identifier. */
const MAX_LENGTH = 47
const HASH_LENGTH = 12
const SEPARATOR = "__"

/** The Polyqueue queue that uses the base name as it is. */
const DEFAULT_QUEUE = "default"

/** Long base names would leave no room to tell queues apart. */
const validBase = /^[a-z](?:[_-]?[a-z0-9])*$/
const MAX_BASE_LENGTH = 28

const plain = /^[a-z0-9_]+$/

/** Whether a base name can be used; `BASE_RULE` says in words what it must be. */
export const isBase = (base: string): boolean => validBase.test(base) && base.length <= MAX_BASE_LENGTH

/** What a base name must be, for a message. */
export const BASE_RULE =
  `at most ${MAX_BASE_LENGTH} lower-case letters and digits, with single underscores or hyphens between them, ` +
  "beginning with a letter"

/**
 * The pgmq queue of a Polyqueue queue: `base` for `default`, `base__queue` for plain names, and for all others (upper case,
 * other characters, too long) `base__what-is-readable-<hash>`, which no plain name can be. Fits pgmq's rules, lower case.
 */
export const pgmqQueue = (base: string, queue: string): string => {
  if (queue === DEFAULT_QUEUE) return base
  const name = `${base}${SEPARATOR}${queue}`
  if (plain.test(queue) && name.length <= MAX_LENGTH) return name
  const hash = createHash("sha256").update(queue).digest("hex").slice(0, HASH_LENGTH)
  const room = MAX_LENGTH - base.length - SEPARATOR.length - 1 - HASH_LENGTH
  const readable = queue
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]+/g, "_")
    .slice(0, room)
  return `${base}${SEPARATOR}${readable}-${hash}`
}

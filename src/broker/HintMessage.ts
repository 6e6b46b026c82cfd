/**
 * The text a hint travels as, the same on every broker that carries text: short, versioned, ids only. Decoding never
 * throws: what others wrote, what a newer version wrote and what was damaged on the way is `undefined`.
 */
import type { Hint } from "./BrokerDriver.ts"

/** Bumped when a reader of the old form could misunderstand the new one. */
const VERSION = 1

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** About 110 bytes and the queue's name. */
export const encode = (hint: Hint): string =>
  JSON.stringify({ pq: VERSION, j: hint.jobId, q: hint.queue, a: hint.attempt, p: hint.priority, n: hint.publication })

/** The hint, or `undefined` when the text is not one. Job ids are checked: a forged one must not reach a statement. */
export const decode = (text: string): Hint | undefined => {
  const message = parse(text)
  if (message === undefined || message["pq"] !== VERSION) return undefined
  const { a: attempt, j: jobId, n: publication, p: priority, q: queue } = message
  if (typeof jobId !== "string" || !uuid.test(jobId) || typeof queue !== "string" || queue === "") return undefined
  return isCount(attempt) && isCount(priority) && isCount(publication)
    ? { jobId, queue, priority, attempt, publication }
    : undefined
}

const parse = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === "object" && value !== null ? { ...value } : undefined
  } catch {
    // Not JSON: not ours
    return undefined
  }
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 2_147_483_647

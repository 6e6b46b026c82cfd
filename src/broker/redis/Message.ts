/**
 * What Redis keeps of a hint, besides the job id that it is filed under: `1:<attempt>:<publication>:<priority>`. The
 * leading number is the version of this format. Ids and numbers only, never a payload.
 */
import type { Hint } from "../BrokerDriver.ts"

const FORMAT = /^1:(\d+):(\d+):(\d+)$/

/** The same as a Lua pattern, for the scripts: they compare attempts, and drop what is no hint of ours. */
export const LUA_PATTERN = "^1:(%d+):(%d+):(%d+)$"

/** Encodes a hint; its job id and queue are where it is kept. */
export const encode = (hint: Hint): string => `1:${hint.attempt}:${hint.publication}:${hint.priority}`

/** Decodes what a queue keeps of a job; `undefined` for what is no hint of ours. */
export const decode = (queue: string, jobId: string, message: string): Hint | undefined => {
  const match = FORMAT.exec(message)
  if (match === null) return undefined
  const [, attempt, publication, priority] = match
  return { jobId, queue, attempt: Number(attempt), publication: Number(publication), priority: Number(priority) }
}

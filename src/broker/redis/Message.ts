/**
 * What Redis keeps of a hint: `1:<attempt>:<publication>:<priority>`, filed under the job id in the keys of its queue, so
 * neither is repeated in it. The leading number is the version of this format. Ids and numbers only, never a payload.
 *
 * Anybody with access to the server can write anything there: only what has exactly this form, and fits the columns that
 * it will be compared with, is a hint. The scripts judge by the same patterns as we do.
 */
import type { Hint } from "../BrokerDriver.ts"

const FORMAT = /^1:(\d{1,9}):(\d{1,9}):(\d)$/
const JOB_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * Lua: `parse(id, message)` answers attempt, publication and priority as texts of digits, or nil for what is no hint.
 */
export const LUA_PARSE = `
local function parse(id, message)
  if not message or not string.match(id, '^${[8, 4, 4, 4, 12].map((digits) => "%x".repeat(digits)).join("%-")}$') then
    return nil
  end
  local attempt, publication, priority = string.match(message, '^1:(%d+):(%d+):(%d)$')
  if not attempt or #attempt > 9 or #publication > 9 then return nil end
  return attempt, publication, priority
end
`

/** Encodes a hint; its job id and queue are where it is kept. */
export const encode = (hint: Hint): string => `1:${hint.attempt}:${hint.publication}:${hint.priority}`

/** Decodes what a queue keeps of a job; `undefined` for what is no hint of ours. */
export const decode = (queue: string, jobId: string, message: string): Hint | undefined => {
  const match = FORMAT.exec(message)
  if (match === null || !JOB_ID.test(jobId)) return undefined
  const [, attempt, publication, priority] = match
  return { jobId, queue, attempt: Number(attempt), publication: Number(publication), priority: Number(priority) }
}

/** Whether a hint can be kept, and read again as it was. */
export const isHint = (hint: Hint): boolean => decode(hint.queue, hint.jobId, encode(hint)) !== undefined

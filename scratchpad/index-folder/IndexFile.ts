/**
 * The job: measure one file. This is the contract that producers and workers share; there is no handler code in it, so a
 * process that only enqueues loads none.
 */
import { Schedule, Schema } from "effect"
import { createHash } from "node:crypto"
import { Job } from "../../src/index.ts"

/** The file cannot be read, and another attempt would not change that: not retried. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { message: Schema.String }) {}

/** The file cannot be read now: retried. Some first attempts are made to fail with it, see `staged`. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { message: Schema.String }) {}

export class IndexFile extends Job.make("IndexFile", {
  payload: {
    /** Files of one run are counted together. */
    run: Schema.String,
    root: Schema.String,
    /** Relative to the root. */
    path: Schema.String,
    /** The path as the system has it, where that is not UTF-8. */
    rawPath: Schema.optionalKey(Schema.Uint8ArrayFromBase64)
  },
  success: Schema.Struct({ bytes: Schema.Int, lines: Schema.Int, sha256: Schema.String, millis: Schema.Int }),
  error: Schema.Union([Unreadable, Busy]),
  retry: {
    schedule: Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 4 })),
    while: (error) => error._tag === "Busy"
  },
  timeout: { after: "1 minute", then: "retry" },
  // Enqueueing a file again is answered with the job it has: a run that was stopped walks the folder again, and goes on
  idempotencyKey: ({ path, rawPath, run }) => `${run}/${sha256(rawPath ?? path)}`
}) {}

/** How many first attempts at this file are made to fail, to show retries: 1 for every tenth file or so, 2 for every fiftieth. */
export const staged = (path: string): number => {
  const draw = Number.parseInt(sha256(path).slice(0, 8), 16) % 100
  return draw < 2 ? 2 : draw < 12 ? 1 : 0
}

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex")

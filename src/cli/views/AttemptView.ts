/** Ended attempts as the CLI shows them. */
import type { AttemptRecord } from "../../store/JobStoreDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import type { Style } from "../Style.ts"
import type { Column } from "../Table.ts"

const paintOf = (style: Style, outcome: AttemptRecord["outcome"]) => {
  switch (outcome) {
    case "succeeded":
      return style.good
    case "failed":
    case "timedOut":
    case "crashed":
      return style.bad
    default:
      return style.faint
  }
}

/** The columns of a job's attempts at the store's `now`. */
export const columns =
  (now: number) =>
  (style: Style): ReadonlyArray<Column<AttemptRecord>> => [
    { title: "ATTEMPT", cell: (attempt) => attempt.attempt, align: "right" },
    { title: "OUTCOME", cell: ({ outcome }) => outcome, paint: ({ outcome }) => paintOf(style, outcome) },
    { title: "ENDED BY", cell: (attempt) => attempt.finalizedBy },
    { title: "CLAIMED", cell: (attempt) => Spans.ago(attempt.claimedAt, now) },
    { title: "TOOK", cell: (attempt) => Spans.show(attempt.endedAt - attempt.claimedAt), align: "right" },
    { title: "WORKER", cell: (attempt) => attempt.worker },
    {
      title: "ERROR",
      cell: ({ error }) => (error === undefined ? undefined : `${error.code}: ${error.message}`),
      flexible: true
    }
  ]

/** An attempt as JSON. */
export const toJson = (attempt: AttemptRecord) => ({
  jobId: attempt.jobId,
  attempt: attempt.attempt,
  outcome: attempt.outcome,
  finalizedBy: attempt.finalizedBy,
  worker: attempt.worker,
  claim: attempt.claim,
  claimedAt: Output.instant(attempt.claimedAt),
  endedAt: Output.instant(attempt.endedAt),
  took: attempt.endedAt - attempt.claimedAt,
  error:
    attempt.error === undefined
      ? null
      : { code: attempt.error.code, message: attempt.error.message, stack: attempt.error.stack ?? null }
})

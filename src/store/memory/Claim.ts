/**
 * Taking jobs from the in-memory table, in claim order: priority, then the type with the oldest head, then the oldest
 * `runAt`, then the id. A claim looks at the heads of the asked lanes only, never at jobs it does not take.
 */
import type {
  ClaimedJob,
  ClaimPool,
  ClaimRequest,
  Disposition,
  HintClaimRequest,
  HintClaims
} from "../JobStoreDriver.ts"
import { byPriority, isSuspect, toClaimed, type JobRow } from "./JobRow.ts"
import type { JobTable } from "./JobTable.ts"

/** What every claim says of itself. */
type Claimer = Pick<ClaimRequest, "claim" | "worker" | "lease">

/** Makes the row this claim's: counts the attempt, raises the fence, starts lease and timeout. */
const take = (table: JobTable, now: number, row: JobRow, by: Claimer): void =>
  table.change(row, (row) => {
    row.status = "processing"
    row.attempt += 1
    row.fence = Math.max(row.fence + 1, now * 1000)
    row.owner = { claim: by.claim, worker: by.worker, claimedAt: now, leaseExpiresAt: now + by.lease }
    row.timeoutAt = row.job.timeout === undefined ? undefined : now + row.job.timeout
    row.startedAt = now
    row.publishAt = undefined
  })

const answer = (rows: Array<JobRow>, claim: string): ReadonlyArray<ClaimedJob> =>
  rows.sort(byPriority).map((row) => toClaimed(row, claim))

/** Claims due jobs of the asked pools. */
export const claim = (table: JobTable, now: number, request: ClaimRequest): ReadonlyArray<ClaimedJob> => {
  const taken: Array<JobRow> = []
  const pools = request.pools.map((pool) => ({
    ...pool,
    ranges: pool.ranges.filter(({ queue, type }) => table.pauses.until(now, queue, type) === undefined)
  }))
  // A suspect takes a slot of its pool, before the others do: it would starve behind a full queue
  const suspect = request.suspects > 0 ? dueSuspect(table, now, pools) : undefined
  if (suspect !== undefined) {
    take(table, now, suspect.row, request)
    taken.push(suspect.row)
  }
  for (const pool of pools) {
    let free = pool === suspect?.pool ? pool.limit - 1 : pool.limit
    for (const lane of dueLanes(table, now, pool.ranges)) {
      for (let row = lane.first; row !== undefined && row.runAt <= now && free > 0; row = lane.first) {
        free -= 1
        take(table, now, row, request)
        taken.push(row)
      }
    }
  }
  return answer(taken, request.claim)
}

/** The asked lanes that have due jobs, one per range and priority, by priority and then by their oldest head. */
const dueLanes = (table: JobTable, now: number, ranges: ClaimPool["ranges"]) =>
  ranges
    .flatMap(({ queue, type }) => table.lane(queue, type)?.byPriority ?? [])
    .flatMap((lane) => (lane.first !== undefined && lane.first.runAt <= now ? [{ lane, head: lane.first }] : []))
    .sort((a, b) => byPriority(a.head, b.head))
    .map(({ lane }) => lane)

/** The first due suspect of all pools that have a slot. */
const dueSuspect = (table: JobTable, now: number, pools: ReadonlyArray<ClaimPool>) =>
  pools
    .filter(({ limit }) => limit > 0)
    .flatMap((pool) =>
      pool.ranges.flatMap(({ queue, type }) =>
        (table.lane(queue, type)?.suspects ?? []).flatMap(({ first }) =>
          first !== undefined && first.runAt <= now ? [{ pool, row: first }] : []
        )
      )
    )
    .sort((a, b) => byPriority(a.row, b.row))[0]

/** Claims the named ids that can be, and says what became of the others. */
export const claimHinted = (table: JobTable, now: number, request: HintClaimRequest): HintClaims => {
  const types = new Set(request.types)
  const claimed: Array<JobRow> = []
  const rest: Array<HintClaims["rest"][number]> = []
  let suspects = request.suspects
  for (const id of new Set(request.ids)) {
    const row = table.get(id)
    const disposition = dispose(table, row, now, types, suspects)
    if (row === undefined || disposition !== undefined) {
      rest.push({ id, disposition: disposition ?? "missing", attempt: row?.attempt ?? 0 })
      continue
    }
    if (isSuspect(row)) suspects -= 1
    take(table, now, row, request)
    claimed.push(row)
  }
  return { claimed: answer(claimed, request.claim), rest }
}

/** What a hinted id is when it cannot be claimed; `undefined`: it can. */
const dispose = (
  table: JobTable,
  row: JobRow | undefined,
  now: number,
  types: ReadonlySet<string>,
  suspects: number
): Disposition | undefined => {
  if (row === undefined) return "missing"
  switch (row.status) {
    case "processing":
      return row.owner!.leaseExpiresAt > now ? "leased" : "expired"
    case "queued":
      if (row.runAt > now) return "waiting"
      if (table.pauses.until(now, row.job.queue, row.job.type) !== undefined) return "paused"
      if (!types.has(row.job.type)) return "unhandled"
      return isSuspect(row) && suspects <= 0 ? "suspect" : undefined
    default:
      return "terminal"
  }
}

/** Milliseconds until something in these ranges is due. What is paused is due when its pause ends. */
export const nextDue = (table: JobTable, now: number, ranges: ClaimPool["ranges"]): number | undefined => {
  const heads = ranges.flatMap(({ queue, type }) => {
    const lane = table.lane(queue, type)
    const paused = table.pauses.until(now, queue, type) ?? 0
    if (lane === undefined || paused === Number.POSITIVE_INFINITY) return []
    return [...lane.byPriority, ...lane.suspects].flatMap(({ first }) =>
      first === undefined ? [] : Math.max(first.runAt, paused)
    )
  })
  return heads.length === 0 ? undefined : Math.max(0, Math.min(...heads) - now)
}

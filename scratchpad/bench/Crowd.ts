/**
 * What may stand in the table beside the jobs that are drained: a million and more rows of one kind, straight into it. A
 * queue is flat when none of them costs a claim anything.
 */
import * as OldSnapshot from "./OldSnapshot.ts"
import type { Request } from "./Measurement.ts"

interface Bench {
  readonly query: (text: string) => Promise<unknown>
}

/** Columns of a waiting job of the measured kind; a crowd changes some of them. */
const waiting = {
  run_at: "now() - interval '1 hour'",
  priority: "5",
  status: "'queued'",
  queue: "'default'",
  type: "'noop'",
  attempt: "0",
  claim: "null::uuid",
  owner: "null::text",
  started: "null::timestamptz",
  expires: "null::timestamptz",
  finished: "null::timestamptz",
  result: "null::jsonb"
}

const crowds: Readonly<Record<string, Partial<typeof waiting>>> = {
  due: {},
  "future, better priority": { priority: "0", run_at: "now() + interval '1 day'" },
  "type not handled, better priority": { priority: "0", type: "'other'" },
  "paused queue, better priority": { priority: "0", queue: "'paused'", type: "'paused'" },
  finished: {
    status: "'succeeded'",
    finished: "now() - interval '1 minute'",
    started: "now()",
    attempt: "1",
    result: "'null'::jsonb"
  },
  expired: {
    status: "'processing'",
    type: "'other'",
    attempt: "1",
    claim: "gen_random_uuid()",
    owner: "'gone'",
    started: "now() - interval '1 hour'",
    expires: "now() - interval '59 minutes'"
  }
}

/** The kinds there are, and what is not rows: a transaction that is open for as long as the drain. */
export const kinds: ReadonlyArray<string> = [...Object.keys(crowds), "old snapshot open"]

/** Ids in the order of time, as ours are: of row `g.i` of a portion. */
const id = (portion: number): string =>
  `(lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(g.i >> 12), 3, '0')
    || '8' || lpad(to_hex(g.i & 4095), 3, '0') || lpad(to_hex(${portion}), 12, '0'))::uuid`

/** Puts the crowd of the request into the table. Answers how to let go of what it holds. */
export const fill = async ({ query }: Bench, request: Request): Promise<() => Promise<void>> => {
  if (request.crowd === "old snapshot open") return OldSnapshot.hold(request.postgres)
  const crowd = crowds[request.crowd]
  if (crowd === undefined) return async () => {}
  if (request.crowd.startsWith("paused")) {
    await query("insert into polyqueue.polyqueue_queues (queue, paused_at) values ('paused', now())")
  }
  const columns = Object.entries({ ...waiting, ...crowd }).map(([name, value]) => `${value} as ${name}`)
  // The sessions of the store give up after ten seconds: in portions
  for (let left = request.crowdSize; left > 0; left -= 100_000) {
    await query(`insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes,
      priority, hinted, unique_live, status, queue, type, timeout_then, payload, attempt, claim, lease_owner, started_at,
      lease_expires_at, finished_at, result)
    select ${id(left)}, c.run_at + c.n * interval '1 microsecond', now(), 3, 3, 3, c.priority::int2, false, false,
      c.status, c.queue, c.type, 'retry', '{"n":1}', c.attempt::int, c.claim, c.owner, c.started, c.expires, c.finished, c.result
    from generate_series(1, ${Math.min(left, 100_000)}) as g(i) cross join lateral (select g.i as n, ${columns.join(", ")}) c`)
  }
  return async () => {}
}

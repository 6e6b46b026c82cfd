/**
 * The tables: jobs, their ended attempts, workers, and what is paused. Impossible rows are impossible. What a column alone
 * may hold is said by its domain, which is checked when that column is written; what columns say together by a CHECK,
 * which Postgres reads anew for every statement and evaluates for every row, so there are few, and what a status allows
 * is one CASE. What is never null and of fixed width comes first, then what the indexes need, so that Postgres finds it
 * without counting through the row; what renewals and progress write is in no index, so those updates stay on their page (HOT).
 */
import type { Names } from "../src/store/postgres/Names.ts"

/** At most so many characters: no more bytes are no more characters, and bytes are known without counting. */
const atMost = (limit: number): string => `(octet_length(value) <= ${limit} or length(value) <= ${limit})`

const oneOf = (...values: ReadonlyArray<string>): string => `value in (${values.map((one) => `'${one}'`).join(", ")})`

const domains = (n: Names): ReadonlyArray<string> =>
  (
    [
      ["count", "integer", "value >= 0"],
      ["positive", "integer", "value > 0"],
      ["milliseconds", "bigint", "value > 0"],
      ["priority", "smallint", "value between 0 and 9"],
      ["name", "text", `value <> '' and ${atMost(255)}`],
      ["owner", "text", atMost(255)],
      ["key", "text", atMost(1_000)],
      ["status", "text", oneOf("queued", "processing", "succeeded", "failed", "cancelled")],
      ["timeout_then", "text", oneOf("retry", "fail", "ignore")],
      ["outcome", "text", oneOf("succeeded", "failed", "timedOut", "snoozed", "released", "cancelled", "crashed")],
      ["finalizer", "text", oneOf("worker", "reaper", "admin")]
    ] as const
  ).map(
    ([name, type, condition]) =>
      `create domain ${n.table(name)} as ${type} constraint ${n.local(name)} check (${condition})`
  )

const jobs = (n: Names): ReadonlyArray<string> => [
  `create table ${n.jobs} (
  id uuid not null,
  run_at timestamptz not null,
  enqueued_at timestamptz not null,
  fence bigint not null default 0,
  attempt integer not null default 0,
  failures ${n.table("count")} not null default 0,
  crashes ${n.table("count")} not null default 0,
  interruptions ${n.table("count")} not null default 0,
  snoozes ${n.table("count")} not null default 0,
  retry_from ${n.table("count")} not null default 0,
  crash_from ${n.table("count")} not null default 0,
  publications ${n.table("count")} not null default 0,
  max_attempts ${n.table("positive")} not null,
  max_crashes ${n.table("positive")} not null,
  max_snoozes ${n.table("count")} not null,
  priority ${n.table("priority")} not null,
  hinted boolean not null,
  unique_live boolean not null,
  status ${n.table("status")} not null,
  queue ${n.table("name")} not null,
  type ${n.table("name")} not null,
  finished_at timestamptz,
  publish_at timestamptz,
  started_at timestamptz,
  lease_expires_at timestamptz,
  claim uuid,
  lease_owner ${n.table("owner")},
  timeout_then ${n.table("timeout_then")} not null,
  payload jsonb not null,
  timeout ${n.table("milliseconds")},
  retry_delays real[],
  unique_key ${n.table("key")},
  progress_at timestamptz,
  cancel_requested_at timestamptz,
  overran_at timestamptz,
  tags text[],
  metadata jsonb,
  result jsonb,
  error jsonb,
  progress jsonb,
  constraint ${n.local("jobs_pkey")} primary key (id),
  constraint ${n.local("jobs_state")} check (case
    when claim is not null then status = 'processing' and lease_owner is not null and lease_expires_at is not null
      and started_at is not null and finished_at is null and result is null and publish_at is null
    when lease_owner is not null or lease_expires_at is not null then false
    when finished_at is null then status = 'queued' and result is null and (hinted or publish_at is null)
    else status not in ('queued', 'processing') and (result is null or status = 'succeeded') and publish_at is null
    end),
  constraint ${n.local("jobs_counters")} check (
    attempt >= failures + crashes + interruptions + snoozes and retry_from <= failures and crash_from <= crashes)
) with (
  fillfactor = 75,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 0
)`,
  // Claims walk (queue, type, priority) ranges: what they cannot take is never in front of what they can
  `create index ${n.local("jobs_claim")} on ${n.jobs} (queue, type, priority, run_at, id)
  where status = 'queued' and crashes <= crash_from`,
  // Jobs that crashed a worker wait apart: a worker takes at most one of them
  `create index ${n.local("jobs_suspects")} on ${n.jobs} (queue, type, priority, run_at, id)
  where status = 'queued' and crashes > crash_from`,
  // As many as the fleet has slots: sweeps read them all
  `create index ${n.local("jobs_processing")} on ${n.jobs} (id) where status = 'processing'`,
  `create unique index ${n.local("jobs_unique")} on ${n.jobs} (type, unique_key)
  where unique_key is not null and (not unique_live or status in ('queued', 'processing'))`,
  // First hints and repeated ones apart, so that a backlog published already is not in front of what is new
  `create index ${n.local("jobs_publish")} on ${n.jobs} (priority, publish_at)
  where publish_at is not null and publications = 0`,
  `create index ${n.local("jobs_publish_again")} on ${n.jobs} (priority, publish_at)
  where publish_at is not null and publications > 0`,
  `create index ${n.local("jobs_finished")} on ${n.jobs} (status, finished_at) where finished_at is not null`
]

const attempts = (n: Names): ReadonlyArray<string> => [
  `create table ${n.attempts} (
  job_id uuid not null,
  claim uuid not null,
  claimed_at timestamptz not null,
  ended_at timestamptz not null,
  attempt ${n.table("positive")} not null,
  outcome ${n.table("outcome")} not null,
  finalized_by ${n.table("finalizer")} not null,
  worker text not null,
  error jsonb,
  constraint ${n.local("attempts_pkey")} primary key (job_id, attempt)
) with (
  autovacuum_vacuum_insert_scale_factor = 0.1,
  autovacuum_analyze_scale_factor = 0.1,
  autovacuum_vacuum_cost_delay = 0
)`,
  // Append-only: a block range index costs the hot path nothing and finds what retention lets go
  `create index ${n.local("attempts_ended")} on ${n.attempts} using brin (ended_at)
  with (pages_per_range = 32, autosummarize = on)`
]

const others = (n: Names): ReadonlyArray<string> => [
  `create table ${n.workers} (
  id text not null,
  started_at timestamptz not null,
  heartbeat_at timestamptz not null,
  pid integer not null,
  slots integer not null,
  running_count integer not null,
  status text not null,
  host text not null,
  name text not null,
  version text not null,
  queues text[] not null,
  job_types text[] not null,
  running text[] not null,
  constraint ${n.local("workers_pkey")} primary key (id),
  constraint ${n.local("workers_status")} check (status in ('running', 'draining', 'stopped', 'dead'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1)`,
  // One row per paused queue (type '') or type of a queue. No row: not paused
  `create table ${n.queues} (
  queue text not null,
  type text not null default '',
  paused_at timestamptz not null,
  paused_until timestamptz,
  reason text,
  constraint ${n.local("queues_pkey")} primary key (queue, type)
)`
]

/** The statements of this migration, in order. */
export const createJobs = (names: Names): ReadonlyArray<string> => [
  ...domains(names),
  ...jobs(names),
  ...attempts(names),
  ...others(names)
]

/**
 * The tables: jobs, their ended attempts, workers, and what is paused. Impossible rows are impossible by CHECK. All of them
 * are evaluated whenever a row is written, so what a status allows is one CASE, and characters are rarely counted. What is
 * never null and of fixed width comes first, then what the indexes need, so that Postgres finds it without counting
 * through the row; what renewals and progress write is in no index, so those updates stay on their page (HOT).
 */
import type { Names } from "../src/store/postgres/Names.ts"

/** At most so many characters: no more bytes are no more characters, and bytes are known without counting. */
const atMost = (limit: number, column: string): string =>
  `(octet_length(${column}) <= ${limit} or length(${column}) <= ${limit})`

const jobs = (n: Names): ReadonlyArray<string> => [
  `create table ${n.jobs} (
  id uuid not null,
  run_at timestamptz not null,
  enqueued_at timestamptz not null,
  fence bigint not null default 0,
  attempt integer not null default 0,
  failures integer not null default 0,
  crashes integer not null default 0,
  interruptions integer not null default 0,
  snoozes integer not null default 0,
  retry_from integer not null default 0,
  crash_from integer not null default 0,
  publications integer not null default 0,
  max_attempts integer not null,
  max_crashes integer not null,
  max_snoozes integer not null,
  priority smallint not null,
  hinted boolean not null,
  unique_live boolean not null,
  status text not null,
  queue text not null,
  type text not null,
  finished_at timestamptz,
  publish_at timestamptz,
  started_at timestamptz,
  lease_expires_at timestamptz,
  claim uuid,
  lease_owner text,
  timeout_then text not null,
  payload jsonb not null,
  timeout bigint,
  retry_delays real[],
  unique_key text,
  progress_at timestamptz,
  cancel_requested_at timestamptz,
  overran_at timestamptz,
  tags text[],
  metadata jsonb,
  result jsonb,
  error jsonb,
  progress jsonb,
  constraint ${n.local("jobs_pkey")} primary key (id),
  constraint ${n.local("jobs_owner")} check (case when claim is null
    then lease_owner is null and lease_expires_at is null
    else lease_owner is not null and lease_expires_at is not null and started_at is not null end),
  constraint ${n.local("jobs_status")} check (case status
    when 'queued' then claim is null and finished_at is null and result is null and (hinted or publish_at is null)
    when 'processing' then claim is not null and finished_at is null and result is null and publish_at is null
    when 'succeeded' then claim is null and finished_at is not null and publish_at is null
    when 'failed' then claim is null and finished_at is not null and result is null and publish_at is null
    when 'cancelled' then claim is null and finished_at is not null and result is null and publish_at is null
    else false end),
  constraint ${n.local("jobs_counters")} check (
    failures >= 0 and crashes >= 0 and interruptions >= 0 and snoozes >= 0 and publications >= 0
    and retry_from between 0 and failures and crash_from between 0 and crashes
    and attempt >= failures + crashes + interruptions + snoozes),
  constraint ${n.local("jobs_limits")} check (
    max_attempts > 0 and max_crashes > 0 and max_snoozes >= 0 and timeout > 0 and priority between 0 and 9
    and timeout_then in ('retry', 'fail', 'ignore')),
  constraint ${n.local("jobs_lengths")} check (
    queue <> '' and ${atMost(255, "queue")} and type <> '' and ${atMost(255, "type")}
    and ${atMost(1_000, "unique_key")} and ${atMost(255, "lease_owner")})
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
  attempt integer not null,
  outcome text not null,
  finalized_by text not null,
  worker text not null,
  error jsonb,
  constraint ${n.local("attempts_pkey")} primary key (job_id, attempt),
  constraint ${n.local("attempts_outcome")} check
    (outcome in ('succeeded', 'failed', 'timedOut', 'snoozed', 'released', 'cancelled', 'crashed')),
  constraint ${n.local("attempts_finalized")} check (finalized_by in ('worker', 'reaper', 'admin')),
  constraint ${n.local("attempts_attempt")} check (attempt > 0)
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
  ...jobs(names),
  ...attempts(names),
  ...others(names)
]

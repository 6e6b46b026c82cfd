/**
 * A database as it looks after some weeks, made by SQL: jobs in all states, their attempts, workers, a pause. In every hundred
 * jobs: 60 succeeded, 10 failed, 5 cancelled, 15 waiting, 9 due in a paused queue, 1 running (up to 40 in all; some of them
 * past their timeout, some silent).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** The id of job `n`, from 0. */
export const idOf = (n: number): string => `01890a5d-0000-7000-8000-${n.toString(16).padStart(12, "0")}`

const rows = `
  select n,
    ('01890a5d-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as id,
    case when n % 100 < 60 then 'succeeded' when n % 100 < 70 then 'failed' when n % 100 < 75 then 'cancelled'
      when n % 100 < 99 or n >= 4000 then 'queued' else 'processing' end as status,
    now() - interval '10 days' + (n * 864000.0 / $1::float8) * interval '1 second' as enqueued,
    (array['mail', 'media', 'import'])[1 + n % 3] as queue,
    (array['SendEmail', 'Resize', 'ImportRows', 'Digest'])[1 + n % 4] as type
  from generate_series(0, $1::int4 - 1) as n`

const insertJobs = `
  insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, started_at, lease_expires_at, claim, lease_owner,
    finished_at, progress_at, timeout, attempt, failures, max_attempts, max_crashes, max_snoozes, priority, hinted,
    unique_live, status, queue, type, timeout_then, payload, tags, result, error)
  select s.id,
    case when s.status = 'queued' and s.n % 100 < 90 then now() + interval '1 hour' else s.enqueued end,
    s.enqueued,
    case when s.status not in ('queued', 'cancelled') then now() - interval '10 minutes' end,
    case when s.status = 'processing' then now() + interval '1 hour' end,
    case when s.status = 'processing' then gen_random_uuid() end,
    case when s.status = 'processing' then 'worker-' || s.n % 3 end,
    case when s.status in ('succeeded', 'failed', 'cancelled') then s.enqueued + interval '1 minute' end,
    case when s.status = 'processing' and s.n % 200 = 99 then now() end,
    case when s.n % 400 = 199 then 1000 else 3600000 end,
    case s.status when 'succeeded' then 1 when 'failed' then 3 when 'processing' then 1 else 0 end,
    case s.status when 'failed' then 3 else 0 end,
    3, 3, 1000, s.n % 10, false, false, s.status,
    case when s.status = 'queued' and s.n % 100 >= 90 then 'held' else s.queue end, s.type,
    case when s.n % 400 = 199 then 'ignore' else 'retry' end,
    jsonb_build_object('n', s.n), case when s.n % 50 = 0 then array['vip'] end,
    case when s.status = 'succeeded' then '{"ok":true}'::jsonb end,
    case when s.status = 'failed' then jsonb_build_object('code', case when s.n % 2 = 0 then 'error' else 'timedOut' end,
      'message', 'mailbox ' || s.n || ' is full') end
  from (${rows}) s`

const insertAttempts = `
  insert into polyqueue.polyqueue_attempts (job_id, claim, claimed_at, ended_at, attempt, outcome, finalized_by, worker, error)
  select s.id, gen_random_uuid(), s.enqueued, s.enqueued + interval '30 seconds', a,
    case s.status when 'succeeded' then 'succeeded' else 'failed' end, 'worker', 'worker-' || s.n % 3,
    case when s.status = 'failed' then '{"code":"error","message":"mailbox is full"}'::jsonb end
  from (${rows}) s cross join generate_series(1, case s.status when 'failed' then 3 else 1 end) as a
  where s.status in ('succeeded', 'failed')`

const insertWorkers = `
  insert into polyqueue.polyqueue_workers (id, started_at, heartbeat_at, pid, slots, running_count, status, host, name, version,
    queues, job_types, running, memory, event_loop_delay)
  select 'worker-' || n, now() - interval '1 day', now(), 100 + n, 10, 1, (array['running', 'running', 'draining'])[n + 1],
    'host-' || n, 'mailer', '0.1.0', array['mail', 'media', 'import'],
    array['SendEmail', 'Resize', 'ImportRows', 'Digest'], array[]::text[], 120000000, 4
  from generate_series(0, 2) as n
  union all
  select 'worker-dead', now() - interval '2 days', now() - interval '1 hour', 99, 10, 0, 'dead', 'host-9', 'mailer', '0.0.9',
    array['mail'], array['SendEmail'], array[]::text[], 0, 0`

/** Fills migrated, empty tables with `jobs` jobs and the rest. */
export const seed = (jobs: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(insertJobs, [jobs])
    yield* sql.unsafe(insertAttempts, [jobs])
    yield* sql.unsafe(insertWorkers)
    yield* sql.unsafe(
      `insert into polyqueue.polyqueue_queues (queue, paused_at, reason) values ('held', now() - interval '1 hour', 'a test')`
    )
    yield* sql.unsafe("analyze polyqueue.polyqueue_jobs, polyqueue.polyqueue_attempts")
  })

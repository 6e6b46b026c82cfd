/**
 * The common enqueue, at half the cost of the general one: ids this process just made, no unique keys, and jobs that
 * differ in nothing but id, payload and trace context. What they share is said once instead of once per row, and a plain
 * INSERT needs no speculative insertion. Should an id be taken after all, it fails as a whole with `Refused`, and the
 * general statement finds out why.
 */
import type { NewJob } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"

/**
 * `$1` ids, `$2` payloads, `$3` trace contexts; the rest is of all jobs, in the order of `alikeParams`. `offset 0` keeps
 * what is computed of it from being computed again for every row.
 */
export const alikeStatement = (names: Names, clock: DatabaseClock): string =>
  `insert into ${names.jobs} (id, run_at, enqueued_at, publish_at, publications, timeout, max_attempts, max_crashes,
    max_snoozes, priority, hinted, unique_live, status, queue, type, timeout_then, payload, retry_delays, tags, metadata)
  select t.id, c.run_at, c.at, c.publish_at, c.publications, c.timeout, $8::int4, $9::int4, $10::int4, c.priority,
    $12::bool, $13::bool, 'queued', $14::text, $15::text, $16::text, t.payload::jsonb, c.retry_delays, c.tags,
    t.metadata::jsonb
  from (
    select c.at, c.run_at, case when $12::bool then c.run_at + $6::float8 * interval '1 millisecond' end as publish_at,
      case when $12::bool and $6::float8 > 0 then 1 else 0 end as publications, $7::float8::bigint as timeout,
      $11::int4::int2 as priority, $17::text::real[] as retry_delays, $18::text::text[] as tags
    from (
      select c.at, coalesce(to_timestamp($4::float8 / 1000), c.at + $5::float8 * interval '1 millisecond') as run_at
      from (select ${clock.moment} as at offset 0) c offset 0
    ) c offset 0
  ) c, unnest((select $1::uuid[]), (select $2::text[]), (select $3::text[])) as t(id, payload, metadata)`

/** Held while an INSERT that notifies commits. Any number would do, as long as nobody else takes it. */
const lock = "5790291384637412011"

/**
 * The same, notifying the channel `$19` of `$20` as it commits; answers whether it does. Commits that notify wait for one
 * another: so it does only while no other INSERT of ours is about to, and nobody ever waits for the lock that says so.
 */
export const announcedStatement = (names: Names, clock: DatabaseClock): string =>
  `with i as (${alikeStatement(names, clock)})
  select case when pg_catalog.pg_try_advisory_xact_lock(${lock}) then pg_catalog.pg_notify($19::text, $20::text) is not null
    else false end`

/** The jobs that one INSERT may announce: more of them take longer than a notification after the commit. */
export const few = 10

const sameItems = <A>(a: ReadonlyArray<A>, b: ReadonlyArray<A>): boolean =>
  a === b || (a.length === b.length && a.every((item, i) => item === b[i]))

/** Also of job ids: whether Postgres would write it this way. */
export const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const isLike = (first: NewJob, job: NewJob): boolean =>
  job.freshId &&
  job.key === undefined &&
  job.type === first.type &&
  job.queue === first.queue &&
  job.priority === first.priority &&
  job.delay === first.delay &&
  job.runAt === first.runAt &&
  job.publishIn === first.publishIn &&
  job.timeout === first.timeout &&
  job.timeoutThen === first.timeoutThen &&
  job.maxAttempts === first.maxAttempts &&
  job.maxCrashes === first.maxCrashes &&
  job.maxSnoozes === first.maxSnoozes &&
  job.hinted === first.hinted &&
  job.keyScope === first.keyScope &&
  sameItems(job.retryDelays, first.retryDelays) &&
  sameItems(job.tags, first.tags) &&
  uuid.test(job.id)

/** Whether one `alikeStatement` can insert them. */
export const areAlike = (jobs: ReadonlyArray<NewJob>): boolean => {
  const first = jobs[0]
  return first !== undefined && jobs.every((job) => isLike(first, job))
}

/** An array as Postgres reads it from text: arrays of arrays cannot be unnested by row. */
export const arrayText = (items: ReadonlyArray<string | number>): string | null =>
  items.length === 0
    ? null
    : `{${items.map((item) => (typeof item === "number" ? item : `"${item.replaceAll(/["\\]/g, "\\$&")}"`)).join(",")}}`

/** Of jobs that are alike. */
export const alikeParams = (jobs: ReadonlyArray<NewJob>): ReadonlyArray<unknown> => {
  const job = jobs[0]!
  return [
    Params.uuids(jobs.map(({ id }) => id)),
    Params.texts(jobs.map(({ payload }) => payload)),
    Params.texts(jobs.map(({ metadata }) => metadata)),
    Params.float(job.runAt ?? null),
    Params.float(job.delay),
    Params.float(job.publishIn),
    Params.float(job.timeout ?? null),
    Params.int(Params.limit(job.maxAttempts)),
    Params.int(Params.limit(job.maxCrashes)),
    Params.int(Params.limit(job.maxSnoozes)),
    Params.int(job.priority),
    Params.bool(job.hinted),
    Params.bool(job.keyScope === "live"),
    Params.text(job.queue),
    Params.text(job.type),
    Params.text(job.timeoutThen),
    Params.text(arrayText(job.retryDelays)),
    Params.text(arrayText(job.tags))
  ]
}

/**
 * The tables as the checker wants them, without the jobs of type `Ballast` that only fill them. `watch` puts triggers beside the jobs: one writes down every change of owner or
 * status, one is an effect of the very transaction that completes a job.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { History } from "./Checker.ts"
import { now } from "./Report.ts"

/** Prepares a database whose tables exist. */
export const watch = (sql: SqlClient) =>
  Effect.forEach(
    [
      `create table public.transitions (seq bigint generated always as identity, job uuid, before text, after text,
        claim_before uuid, claim uuid, attempt int, at timestamptz default clock_timestamp())`,
      `create table public.tx_effects (job uuid, attempt int, at timestamptz default clock_timestamp())`,
      `create function public.note() returns trigger language plpgsql as $$
      begin
        if tg_op = 'INSERT' then
          insert into public.transitions (job, before, after, claim, attempt)
            values (new.id, null, new.status, new.claim, new.attempt);
        elsif new.status is distinct from old.status or new.claim is distinct from old.claim then
          insert into public.transitions (job, before, after, claim_before, claim, attempt)
            values (new.id, old.status, new.status, old.claim, new.claim, new.attempt);
          if new.status = 'succeeded' then
            insert into public.tx_effects (job, attempt) values (new.id, new.attempt);
          end if;
        end if;
        return null;
      end $$`,
      `create trigger note after insert or update on polyqueue.polyqueue_jobs
        for each row when (new.type <> 'Ballast') execute function public.note()`
    ],
    (statement) => sql.unsafe(statement).unprepared,
    { discard: true }
  )

/** For runs without an end: notes only what must never happen, in `public.broken`. */
export const guard = (sql: SqlClient) =>
  Effect.forEach(
    [
      `create table public.broken (job uuid, what text, at timestamptz default clock_timestamp())`,
      `create function public.guard() returns trigger language plpgsql as $$
      begin
        if tg_op = 'DELETE' then
          if old.finished_at is null then
            insert into public.broken (job, what) values (old.id, 'deleted while ' || old.status);
          end if;
        elsif old.finished_at is not null and new.status is distinct from old.status then
          insert into public.broken (job, what) values (old.id, old.status || ' became ' || new.status);
        elsif old.status = 'processing' and new.status = 'processing' and new.claim is distinct from old.claim then
          insert into public.broken (job, what) values (old.id, 'changed hands while it was owned');
        end if;
        return null;
      end $$`,
      `create trigger guard after update or delete on polyqueue.polyqueue_jobs
        for each row execute function public.guard()`
    ],
    (statement) => sql.unsafe(statement).unprepared,
    { discard: true }
  )

/** What is added to epoch ms of the database to get ms of our monotonic clock. */
export const offset = (sql: SqlClient) =>
  Effect.gen(function* () {
    let best = { took: Infinity, offset: 0 }
    for (let i = 0; i < 5; i++) {
      const asked = now()
      const [row] = yield* sql<{ at: number }>`select (date_part('epoch', clock_timestamp()) * 1000)::float8 as at`
      const answered = now()
      const took = answered - asked
      if (row !== undefined && took < best.took) best = { took, offset: (asked + answered) / 2 - row.at }
    }
    return best.offset
  })

type Rows = Pick<History, "jobs" | "attempts" | "transitions" | "txEffects" | "requeued">

/** Reads them. `clock`: the offset. */
export const read = Effect.fnUntraced(function* (sql: SqlClient, clock: number) {
  const jobs = yield* sql<Rows["jobs"][number]>`
    select id::text as job, status, error ->> 'code' as code, attempt, failures, crashes, interruptions, snoozes
    from polyqueue.polyqueue_jobs where type <> 'Ballast'`
  const attempts = yield* sql<
    Omit<Rows["attempts"][number], "pid"> & { readonly pid: number | null }
  >`select a.job_id::text as job, a.attempt, a.claim::text, a.outcome, a.finalized_by as by, w.pid,
      (date_part('epoch', a.claimed_at) * 1000)::float8 as "claimedAt", (date_part('epoch', a.ended_at) * 1000)::float8 as "endedAt"
    from polyqueue.polyqueue_attempts a left join polyqueue.polyqueue_workers w on w.id = a.worker
    where a.worker <> 'ballast' order by a.job_id, a.attempt`
  const transitions = yield* sql<Rows["transitions"][number]>`
    select job::text, before as "from", after as "to", claim_before::text as "claimBefore", claim::text, attempt
    from public.transitions order by seq`
  const txEffects = yield* sql<Rows["txEffects"][number]>`select job::text, attempt from public.tx_effects`
  const requeued = yield* sql<{ target: string }>`
    select target from polyqueue.polyqueue_audit where action like '%requeue%' or action like '%retry%'`
  const rows: Rows = {
    jobs,
    attempts: attempts.map((row) => ({
      ...row,
      pid: row.pid ?? undefined,
      claimedAt: row.claimedAt + clock,
      endedAt: row.endedAt + clock
    })),
    transitions,
    txEffects,
    requeued: new Set(requeued.map(({ target }) => target))
  }
  return rows
})

/** When jobs that ran once were due, and when they were claimed: in ms of our clock. */
export const firstClaims = Effect.fnUntraced(function* (sql: SqlClient, clock: number) {
  const rows = yield* sql<{ due: number; claimed: number }>`
    select (date_part('epoch', j.run_at) * 1000)::float8 as due, (date_part('epoch', a.claimed_at) * 1000)::float8 as claimed
    from polyqueue.polyqueue_jobs j join polyqueue.polyqueue_attempts a on a.job_id = j.id where j.attempt = 1`
  return rows.map(({ claimed, due }) => ({ due: due + clock, claimed: claimed + clock }))
})

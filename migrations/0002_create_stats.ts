/**
 * The counts that the fleet keeps for metrics: one row, written by one worker at a time. Ended jobs are counted from their
 * index alone, which therefore carries the queue.
 */
import type { Names } from "../src/store/postgres/Names.ts"

/** The statements of this migration, in order. */
export const createStats = (n: Names): ReadonlyArray<string> => [
  `create table ${n.stats} (
  id smallint not null default 1,
  leased_until timestamptz not null,
  due_at timestamptz not null,
  owner text not null,
  counts jsonb,
  constraint ${n.local("stats_pkey")} primary key (id),
  constraint ${n.local("stats_one")} check (id = 1)
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100)`,
  `drop index "${n.schema}".${n.local("jobs_finished")}`,
  `create index ${n.local("jobs_finished")} on ${n.jobs} (status, finished_at) include (queue)
  where finished_at is not null`
]

/**
 * What people do: the log of it, what workers say of their health, and what they are told to do. In `…_queues`, an empty
 * queue now stands for every queue, as an empty type always stood for every type.
 */
import type { Names } from "../src/store/postgres/Names.ts"

/** The statements of this migration, in order. */
export const createControl = (n: Names): ReadonlyArray<string> => [
  // Append-only. One row per thing changed, written by the statement that changed it
  `create table ${n.audit} (
  id bigint generated always as identity,
  at timestamptz not null,
  operation uuid not null,
  action text not null,
  kind text not null,
  target text not null,
  who text not null,
  reason text,
  before jsonb,
  after jsonb,
  constraint ${n.local("audit_pkey")} primary key (id),
  constraint ${n.local("audit_kind")} check (kind in ('job', 'queue', 'worker')),
  constraint ${n.local("audit_lengths")} check (length(who) between 1 and 255 and length(reason) <= 2000)
)`,
  `create index ${n.local("audit_target")} on ${n.audit} (target, id)`,
  `alter table ${n.workers}
  add column memory bigint not null default 0,
  add column event_loop_delay double precision not null default 0,
  add column told text,
  add constraint ${n.local("workers_told")} check (told in ('drain', 'stop'))`,
  // By the name of a worker, so that it holds for whoever has that name next. An empty queue: every pool
  `create table ${n.concurrency} (
  worker_name text not null,
  queue text not null default '',
  concurrency integer not null,
  constraint ${n.local("concurrency_pkey")} primary key (worker_name, queue),
  constraint ${n.local("concurrency_range")} check (concurrency between 0 and 10000)
)`
]

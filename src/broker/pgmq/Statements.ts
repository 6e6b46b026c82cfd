/**
 * The SQL of the PGMQ broker that pgmq has no function for. pgmq's own `delete`, `archive` and `set_vt` take a bare
 * message id, so a worker that lost a message can still remove it under its new owner; its `read` walks through whatever
 * is invisible, takes one queue at a time and whole seconds. These statements are guarded by what was read (message id,
 * read count and time of birth) and follow the index on `vt`.
 *
 * Names are made by `QueueName.ts` and need no escaping; all values are bound parameters. Plans are made per call (the
 * broker's own sessions do not prepare), so they see how large a queue is now.
 */

/** A queue's table, quoted: what `pgmq.create` made. */
export const tableOf = (name: string): string => `pgmq."q_${name}"`

/** Birth survives what ids do not: an unlogged queue starts again at id 1 after a crash of the server. */
const born = "(extract(epoch from enqueued_at) * 1000000)::bigint"

/**
 * Takes up to `$1` visible messages of several queues, the first queue first, and hides them for `$2` milliseconds.
 * Rows: index of the queue, message id, read count, birth, message.
 */
export const read = (tables: ReadonlyArray<string>, lastReadAt: boolean): string => {
  const touched = lastReadAt ? ", last_read_at = clock_timestamp()" : ""
  const steps = tables.map((table, n) => {
    const taken = tables.slice(0, n).map((_, earlier) => ` - (select count(*) from p${earlier})`)
    const limit = n === 0 ? "$1::int" : `greatest($1::int${taken.join("")}, 0)`
    return `p${n} as materialized (
  select ctid from ${table} where vt <= statement_timestamp() order by vt limit ${limit} for update skip locked
), r${n} as (
  update ${table} set vt = clock_timestamp() + make_interval(secs => $2::float8 / 1000), read_ct = read_ct + 1${touched}
  where ctid = any(array(select ctid from p${n})) returning msg_id, read_ct, ${born} as born, message
)`
  })
  const rows = tables.map((_, n) => `select ${n} as queue, msg_id, read_ct, born, message from r${n}`)
  return `with ${steps.join(", ")}
select queue, msg_id::text, read_ct, born::text, message::text from (${rows.join(" union all ")}) as r order by r.queue, r.msg_id`
}

/** `$1`, `$2`, `$3`: ids, read counts and births. A message that was read again, or born again, does not match. */
const receipts = "unnest($1::text[]::bigint[], $2::int[], $3::text[]::bigint[]) as t(id, reads, at)"
const owned = `q.msg_id = t.id and q.read_ct = t.reads and ${born} = t.at`

/** Removes messages. Rows: id and read count of those that were still owned. */
export const remove = (table: string): string =>
  `delete from ${table} q using ${receipts} where ${owned} returning q.msg_id::text, q.read_ct`

/** Moves messages to the archive with pgmq's own function, once they are locked and known to be owned. `$4`: pgmq's name. */
export const archive = (table: string): string => `with mine as materialized (
  select q.msg_id, q.read_ct from ${table} q join ${receipts} on ${owned} for update of q
), gone as materialized (
  select pgmq.archive($4::text, array(select msg_id from mine)) as msg_id
)
select mine.msg_id::text, mine.read_ct from mine join gone using (msg_id)`

const show = (table: string, also: string): string =>
  `update ${table} q set vt = clock_timestamp() + make_interval(secs => $4::float8 / 1000)
from ${receipts} where ${owned}${also} returning q.msg_id::text, q.read_ct`

/** Makes messages visible in `$4` milliseconds. Rows: id and read count of those that were still owned. */
export const release = (table: string): string => show(table, "")

/** Like `release`, but only what is still invisible: a renewal that was under way must not undo a release. */
export const extend = (table: string): string => show(table, " and q.vt > clock_timestamp()")

/** Appends `$2`, an array of JSON texts, to the queue `$1`: pgmq's own function. */
export const send = "select count(*) from pgmq.send_batch($1::text, $2::text[]::jsonb[])"

/** How many messages can be received now. */
export const depth = (table: string): string => `select count(*)::int from ${table} where vt <= statement_timestamp()`

/** The newest message there is. */
export const newest = (table: string): string => `select max(msg_id)::text from ${table}`

/**
 * Removes up to 10,000 messages that are not newer than `$1`. pgmq's `purge_queue` truncates: it would wait for every open
 * transaction that published, and make everybody else wait behind it.
 */
export const purge = (table: string): string =>
  `with gone as (delete from ${table} where msg_id in (
  select msg_id from ${table} where msg_id <= $1::text::bigint order by msg_id limit 10000) returning 1)
select count(*)::int from gone`

/** How a queue's table is kept, or no row when there is none. `$1`: the table's bare name. */
export const persistence = `select c.relpersistence::text from pg_class c
join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'pgmq' and c.relname = $1::text`

/**
 * Makes a queue; harmless when it exists by now. Every hint is a dead row soon, and few are alive: the table is vacuumed by
 * the number of dead rows, not by a share of the table. Since PostgreSQL 15 the sequence of an unlogged table begins again
 * after a crash; ids that come twice would meet their older selves in the archive.
 */
export const create = (name: string, unlogged: boolean): string => `do $$ begin
  perform pgmq.${unlogged ? "create_unlogged" : "create"}('${name}');
  alter table ${tableOf(name)} set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
  ${
    unlogged
      ? `if current_setting('server_version_num')::int >= 150000 then
    execute 'alter sequence pgmq."q_${name}_msg_id_seq" set logged';
  end if;`
      : ""
  }
end $$`

/** One row about pgmq here: schema exists, usable, functions missing, reads are dated, isolation, server is read-only. */
export const probe = `select n.oid is not null, coalesce(has_schema_privilege(n.oid, 'usage'), false),
  array(select f.name from unnest(array['create', 'create_unlogged', 'send_batch', 'archive']) as f(name)
    where not exists (select from pg_proc p where p.pronamespace = n.oid and p.proname = f.name)),
  exists (select from pg_type t join pg_attribute a on a.attrelid = t.typrelid
    where t.typnamespace = n.oid and t.typname = 'message_record' and a.attname = 'last_read_at'),
  current_setting('default_transaction_isolation'), pg_is_in_recovery()
from (values (1)) as one left join pg_namespace n on n.nspname = 'pgmq'`

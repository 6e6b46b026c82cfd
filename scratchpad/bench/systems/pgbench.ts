/**
 * The bar: two clients of pgbench that claim and settle the same rows by bare statements, 500 at a time, attempts log
 * included. No leases are proved, nothing is decoded, nothing is run: what Postgres itself can do on this machine.
 */
import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import type { System } from "../Measurement.ts"

const size = 500
const script = `\\set n random(1, 1000000000)
with k as (
  update polyqueue.polyqueue_jobs j set status = 'processing', attempt = j.attempt + 1, claim = md5(:n::text)::uuid,
    lease_owner = '01a20430-80c0-70d0-b7fc-c063b37eb2df', started_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + interval '30 s', fence = (date_part('epoch', clock_timestamp()) * 1000000)::bigint
  where ctid = any(array(
    select ctid from polyqueue.polyqueue_jobs where status = 'queued' and crashes <= crash_from and queue = 'default'
      and type = 'noop' and priority = 5 and run_at <= now() order by run_at, id limit ${size} for no key update skip locked))
  returning j.id, j.payload
) select array_agg(id)::text as ids, count(payload) from k \\gset
with u as (
  update polyqueue.polyqueue_jobs j set status = 'succeeded', result = t.r::jsonb, finished_at = clock_timestamp(),
    claim = null, lease_owner = null, lease_expires_at = null
  from unnest((select :ids::text::uuid[]), (select array_fill('null'::text, array[${size}]))) t(id, r)
  where j.id = t.id and (case when j.status = 'processing' and j.claim = md5(:n::text)::uuid then true else false end)
  returning j.id, j.attempt, j.started_at
) insert into polyqueue.polyqueue_attempts (job_id, claim, claimed_at, ended_at, attempt, outcome, finalized_by, worker)
select id, md5(:n::text)::uuid, started_at, clock_timestamp(), attempt, 'succeeded', 'worker',
  '01a20430-80c0-70d0-b7fc-c063b37eb2df' from u;
`

export const system: System = {
  drain: async ({ jobs, postgres }) => {
    const folder = await mkdtemp(join(tmpdir(), "polyqueue-bench-"))
    try {
      const file = join(folder, "drain.sql")
      await writeFile(file, script)
      const each = String(Math.floor(jobs / size / 2))
      const { stdout } = await promisify(execFile)("pgbench", [
        "-n",
        "-M",
        "prepared",
        "-c",
        "2",
        "-j",
        "2",
        "-t",
        each,
        "-f",
        file,
        postgres
      ])
      const rate = /tps = ([\d.]+)/.exec(stdout)?.[1]
      if (rate === undefined) throw new Error(`pgbench said no rate:\n${stdout}`)
      return { value: Number(rate) * size, unit: "jobs/s" }
    } finally {
      await rm(folder, { recursive: true })
    }
  }
}

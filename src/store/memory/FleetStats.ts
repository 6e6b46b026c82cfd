/** The fleet's counts in the in-memory store: there is one process, so whoever asks counts. */
import type { FleetQueue, FleetStats } from "../JobStoreDriver.ts"
import type { JobTable } from "./JobTable.ts"

type Counts = { -readonly [Key in keyof FleetQueue]: FleetQueue[Key] }

/** Counts everything now. */
export const fleetStats = (table: JobTable, now: number, staleAfter: number): FleetStats => {
  const queues = new Map<string, Counts>()
  let relayLag = 0
  for (const row of table.all()) {
    const { queue, type } = row.job
    let counts = queues.get(queue)
    if (counts === undefined) {
      const none = { claimable: 0, due: 0, waiting: 0, processing: 0, stale: 0, succeeded: 0, failed: 0, cancelled: 0 }
      counts = { queue, ...none, oldestAge: 0 }
      queues.set(queue, counts)
    }
    if (row.publishAt !== undefined && row.publications === 0) relayLag = Math.max(relayLag, now - row.publishAt)
    if (row.status !== "queued") {
      counts[row.status] += 1
      const isSilent = row.progressAt !== undefined && Math.max(row.progressAt, row.startedAt ?? 0) < now - staleAfter
      if (row.status === "processing" && isSilent) counts.stale += 1
    } else if (row.runAt > now) counts.waiting += 1
    else {
      counts.due += 1
      if (table.pauses.until(now, queue, type) === undefined) counts.claimable += 1
      counts.oldestAge = Math.max(counts.oldestAge, now - row.runAt)
    }
  }
  const sorted = [...queues.values()].sort((a, b) => (a.queue < b.queue ? -1 : 1))
  return { countedAt: now, queues: sorted, relayLag }
}

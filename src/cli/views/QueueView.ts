/** Queues as the CLI shows them. */
import type { QueueRecord } from "../../admin/AdminService.ts"
import type { Pause } from "../../store/JobStoreDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import type { Style } from "../Style.ts"
import type { Column } from "../Table.ts"

/** A pause in a few words. */
export const pauseText = (pause: Pause, now: number): string => {
  const what =
    pause.type === undefined
      ? pause.queue === undefined
        ? "everything"
        : "paused"
      : `type ${pause.type}${pause.queue === undefined ? " in all queues" : ""}`
  const until = pause.until === undefined ? "" : `, ${Spans.show(Math.max(0, pause.until - now))} left`
  const why = pause.reason === undefined ? "" : ` (${pause.reason})`
  return `${what}${until}${why}`
}

const number = (value: number) => (value === 0 ? "0" : Spans.count(value))

/** The columns of a list of queues at the store's `now`. */
export const columns =
  (now: number) =>
  (style: Style): ReadonlyArray<Column<QueueRecord>> => [
    { title: "QUEUE", cell: (queue) => queue.queue, flexible: true },
    { title: "DUE", cell: (queue) => number(queue.queued), align: "right" },
    { title: "LATER", cell: (queue) => number(queue.waiting), align: "right" },
    { title: "RUNNING", cell: (queue) => number(queue.processing), align: "right" },
    { title: "SUCCEEDED", cell: (queue) => number(queue.succeeded), align: "right" },
    {
      title: "FAILED",
      cell: (queue) => number(queue.failed),
      align: "right",
      paint: (queue) => (queue.failed > 0 ? style.bad : undefined)
    },
    { title: "CANCELLED", cell: (queue) => number(queue.cancelled), align: "right" },
    {
      title: "OLDEST",
      cell: (queue) => (queue.oldestAge === undefined ? undefined : Spans.show(queue.oldestAge)),
      align: "right"
    },
    { title: "WORKERS", cell: (queue) => queue.workers, align: "right" },
    { title: "SLOTS", cell: (queue) => queue.slots, align: "right" },
    {
      title: "PAUSED",
      cell: (queue) => queue.pauses.map((pause) => pauseText(pause, now)).join("; "),
      flexible: true,
      paint: (queue) => (queue.pauses.length > 0 ? style.warning : undefined)
    }
  ]

/** A pause as JSON. */
export const pauseToJson = (pause: Pause) => ({
  queue: pause.queue ?? null,
  type: pause.type ?? null,
  since: Output.instant(pause.since),
  until: Output.instant(pause.until),
  reason: pause.reason ?? null
})

/** A queue as JSON. `queued` are the due ones, `waiting` those with a future start. */
export const toJson = (queue: QueueRecord) => ({
  queue: queue.queue,
  queued: queue.queued,
  waiting: queue.waiting,
  processing: queue.processing,
  succeeded: queue.succeeded,
  failed: queue.failed,
  cancelled: queue.cancelled,
  oldestAge: queue.oldestAge ?? null,
  workers: queue.workers,
  slots: queue.slots,
  paused: queue.paused,
  pauses: queue.pauses.map(pauseToJson)
})

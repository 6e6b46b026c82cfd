/** Writes progress that handlers report: the last report per job wins, one statement at a time, what arrives meanwhile is next. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { JobStore } from "../JobStore.ts"
import { sanitize } from "../store/JsonText.ts"
import type { Lease } from "../store/JobStoreDriver.ts"
import { keyOf } from "./Held.ts"
import * as Signal from "./Signal.ts"
import type { ProgressSink } from "./RunningJob.ts"
import type { Supervisor } from "./Supervisor.ts"

export const make = Effect.fnUntraced(function* (
  store: JobStore["Service"],
  supervisor: Supervisor
): Effect.fn.Return<ProgressSink, never, Scope.Scope> {
  let reports = new Map<string, Lease & { readonly progress: string | undefined }>()
  const reported = Signal.make()
  yield* supervisor.loop(
    "progress",
    Effect.suspend(() => {
      if (reports.size === 0) return reported.wait
      const batch = Array.from(reports.values())
      reports = new Map()
      return store.progress(batch)
    })
  )
  return {
    report: (lease, progress) => {
      const key = keyOf(lease)
      const clean =
        typeof progress === "object" && progress.note !== undefined
          ? { ...progress, note: sanitize(progress.note, 200) }
          : progress
      // A heartbeat does not erase progress that waits to be written
      const text = clean === undefined ? reports.get(key)?.progress : JSON.stringify(clean)
      reports.set(key, { ...lease, progress: text })
      reported.notify()
    }
  }
})

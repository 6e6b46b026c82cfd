/** What a worker process is told: plain data in its environment. Durations in ms. */
import type { Strike } from "./Points.ts"
import type { Sabotage } from "./Sabotage.ts"
import type { Spec } from "./Spec.ts"
import type { Troubles } from "./Troubles.ts"

export interface WorkerSettings {
  readonly url: string
  readonly broker: Spec
  readonly seed: number
  readonly slots: number
  readonly lease: number
  readonly sweep: number
  readonly grace: number
  readonly interruptGrace: number
  readonly brokerLease: number
  readonly maxConnections?: number
  /** `old` does not know the newer job. */
  readonly version?: "old" | "new"
  readonly strikes?: ReadonlyArray<Strike>
  readonly troubles?: Troubles
  readonly retention?: number
  readonly sabotage?: Sabotage
}

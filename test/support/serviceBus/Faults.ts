/** The faults that the local Service Bus can be told to have. */
import type { Disposition, Refusal } from "./EmulatedQueue.ts"
import type { Reply } from "./Management.ts"

/** What goes wrong, asked at each operation. `"ignore"`: no answer is ever given. */
export interface Faults {
  send?: ((entity: string) => Refusal | "ignore" | undefined) | undefined
  settle?: ((how: Disposition["how"]) => Refusal | "ignore" | undefined) | undefined
  management?: ((operation: string) => Reply | "ignore" | undefined) | undefined
  /** The status of an authorisation; 202 is success. */
  authorize?: (() => number) | undefined
  /** Milliseconds before each answer of `$management`. */
  managementDelay?: number | undefined
}

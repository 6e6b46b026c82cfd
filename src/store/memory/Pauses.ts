/** What is paused in the in-memory store. An empty queue is every queue, an empty type every type; ended pauses hold nothing. */
import type { Pause, PauseTarget } from "../JobStoreDriver.ts"

const keyOf = (queue: string, type: string): string => `${queue}\u0000${type}`

/** By queue, then by type; what is for all comes first. */
const byName = (a: Pause, b: Pause): number => {
  const [x, y] = [keyOf(a.queue ?? "", a.type ?? ""), keyOf(b.queue ?? "", b.type ?? "")]
  return x < y ? -1 : x > y ? 1 : 0
}

/** How the audit log names what is paused. */
export const targetOf = ({ queue, type }: PauseTarget): string =>
  type === undefined ? (queue ?? "*") : `${queue ?? "*"}/${type}`

export class Pauses {
  readonly #pauses = new Map<string, Pause>()

  set(pause: Pause): void {
    this.#pauses.set(keyOf(pause.queue ?? "", pause.type ?? ""), pause)
  }

  /** Removes the pause of exactly this target; answers it if it had not ended. */
  delete(now: number, target: PauseTarget): Pause | undefined {
    const pause = this.get(now, target)
    this.#pauses.delete(keyOf(target.queue ?? "", target.type ?? ""))
    return pause
  }

  /** The pause of exactly this target. */
  get(now: number, { queue, type }: PauseTarget): Pause | undefined {
    const pause = this.#pauses.get(keyOf(queue ?? "", type ?? ""))
    return pause === undefined || (pause.until !== undefined && pause.until <= now) ? undefined : pause
  }

  all(now: number): ReadonlyArray<Pause> {
    return [...this.#pauses.values()].filter(({ until }) => until === undefined || until > now).sort(byName)
  }

  /** The pauses that hold jobs of this queue and type. */
  holding(now: number, queue: string, type: string): ReadonlyArray<Pause> {
    if (this.#pauses.size === 0) return []
    const targets = [{}, { type }, { queue }, { queue, type }]
    return targets.flatMap((target) => this.get(now, target) ?? [])
  }

  /** When these jobs may run: `undefined` when nothing holds them, infinite when nothing but a person ends it. */
  until(now: number, queue: string, type: string): number | undefined {
    const held = this.holding(now, queue, type)
    return held.length === 0 ? undefined : Math.max(...held.map(({ until }) => until ?? Number.POSITIVE_INFINITY))
  }
}

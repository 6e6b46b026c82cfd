/**
 * Strikes at random moments: kills, pauses and stops workers, cuts lines, takes store and broker away, empties the broker,
 * moves clocks. Each kind at intervals of its own, until the run is over or healed.
 */
import type { Chaos } from "./Chaos.ts"
import type { Fleet } from "./Fleet.ts"

export const start = (chaos: Chaos, fleet: Fleet, flush: () => void, prune: () => void): void => {
  const { faults, world } = chaos
  const { rng } = world
  const every = (interval: number, fault: string, strike: () => boolean) => {
    if (interval <= 0) return
    const next = () =>
      world.after(rng.int(Math.ceil(interval / 2), Math.ceil(interval * 1.5)), () => {
        if (chaos.isHealed) return
        if (strike()) chaos.count(fault)
        next()
      })
    next()
  }
  const victim = () => {
    const alive = fleet.alive()
    return alive.length === 0 ? undefined : rng.pick(alive)
  }

  every(faults.killEvery, "killed", () => {
    const process = victim()
    if (process === undefined) return false
    // A process at rest takes few steps: it is killed at one of the next, whenever that is
    if (rng.chance(0.5)) process.killAtStep = process.steps + rng.int(1, 200)
    else process.kill("at a moment")
    return true
  })
  every(faults.pauseEvery, "paused", () => {
    const process = victim()
    process?.pause(rng.int(1, faults.pauseFor), "at a moment")
    return process !== undefined
  })
  every(faults.stopEvery, "stopped", () => fleet.stopOne(rng))
  every(faults.outageEvery, "outage", () => {
    const until = world.now + rng.int(1, faults.outageFor)
    const which = rng.pick(["store", "broker", "line"] as const)
    if (which === "store") chaos.storeDownUntil = until
    else if (which === "broker") chaos.brokerDownUntil = until
    else {
      const process = victim()
      if (process === undefined) return false
      chaos.cutOffUntil.set(process.name, until)
    }
    world.tell("world", `${which} is down for ${until - world.now} ms`)
    return true
  })
  every(faults.flushEvery, "broker emptied", () => {
    flush()
    world.tell("world", "the broker forgets everything")
    return true
  })
  every(faults.pruneEvery, "ended jobs deleted", () => {
    prune()
    return true
  })
  every(faults.jumpEvery, "clock jumped", () => {
    const process = victim()
    if (process === undefined) return false
    process.skew = rng.int(-600_000, 600_000)
    world.tell(process.name, `has its wall clock moved to ${process.skew} ms`)
    return true
  })
}

/**
 * Pseudo-random numbers from a seed: the same seed draws the same numbers, on every machine. Small and fast; nothing secret
 * may depend on it.
 */
export interface Rng {
  /** From 0 (inclusive) to 1 (exclusive). */
  readonly next: () => number
  /** A whole number from `from` to `to`, both inclusive. */
  readonly int: (from: number, to: number) => number
  /** True with this probability. Draws nothing when it is 0, so that a fault that is off changes no other draw. */
  readonly chance: (probability: number) => boolean
  /** One of them, each as likely. */
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  /** Another generator, of its own sequence. */
  readonly fork: () => Rng
}

export const make = (seed: number): Rng => {
  let state = seed | 0
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  // Neighbouring seeds are neighbouring states: a few draws take them apart
  for (let i = 0; i < 4; i++) next()
  const int = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
  return {
    next,
    int,
    chance: (probability) => probability > 0 && next() < probability,
    pick: (items) => items[int(0, items.length - 1)]!,
    fork: () => make(int(0, 0xffff_ffff))
  }
}

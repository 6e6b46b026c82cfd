/** Whether a series of samples grows. */

export interface Judgement {
  readonly name: string
  readonly mean: number
  /** Growth over the second half, by the least squares line through it. */
  readonly growth: number
  /** What it may grow by. */
  readonly allowed: number
  readonly isFlat: boolean
}

/** Judges the second half: it may grow by a tenth of its mean, or by `floor` where that is more. */
export const judge = (name: string, samples: ReadonlyArray<number>, floor: number): Judgement => {
  const half = samples.slice(Math.floor(samples.length / 2))
  const mean = half.reduce((sum, value) => sum + value, 0) / Math.max(1, half.length)
  const middle = (half.length - 1) / 2
  let above = 0
  let below = 0
  half.forEach((value, at) => {
    above += (at - middle) * (value - mean)
    below += (at - middle) ** 2
  })
  const growth = below === 0 ? 0 : (above / below) * (half.length - 1)
  const allowed = Math.max(floor, mean / 10)
  return { name, mean, growth, allowed, isFlat: growth <= allowed }
}

/** Whether the soak sees growth, and no growth where there is only noise. */
import { assert, it } from "@effect/vitest"
import { judge } from "../../scratchpad/chaos/Slope.ts"

const series = (value: (at: number) => number) => Array.from({ length: 60 }, (_, at) => value(at))

it("what grows for ever is not flat", () => {
  assert.isFalse(
    judge(
      "leak",
      series((at) => 100 + at),
      5
    ).isFlat
  )
})

it("what grew at first, and then did not, is flat", () => {
  assert.isTrue(
    judge(
      "plateau",
      series((at) => Math.min(at, 25) * 4),
      5
    ).isFlat
  )
})

it("noise, and what shrinks, are flat", () => {
  assert.isTrue(
    judge(
      "noise",
      series((at) => 100 + ((at * 37) % 11)),
      5
    ).isFlat
  )
  assert.isTrue(
    judge(
      "shrinking",
      series((at) => 200 - at),
      5
    ).isFlat
  )
})

it("a small thing may grow by its floor", () => {
  assert.isTrue(
    judge(
      "files",
      series((at) => 20 + at / 10),
      6
    ).isFlat
  )
  assert.isFalse(
    judge(
      "files",
      series((at) => 20 + at),
      6
    ).isFlat
  )
})

/** Lengths of time are read strictly and shown in the units that matter. */
import { Result } from "effect"
import { assert, describe, it } from "vitest"
import * as Spans from "../../src/cli/Spans.ts"

describe("Spans", () => {
  it.for<readonly [number, string]>([
    [0, "0ms"],
    [999, "999ms"],
    [1_234, "1.2s"],
    [9_960, "10s"],
    [59_600, "1m"],
    [61_000, "1m 1s"],
    [3_600_000, "1h"],
    [12_000_000, "3h 20m"],
    [2 * 86_400_000, "2d"],
    [50 * 3_600_000, "2d 2h"],
    [-5_000, "-5s"]
  ])("shows %d ms as %s", ([milliseconds, text]) => assert.strictEqual(Spans.show(milliseconds), text))

  it.for<readonly [string, number]>([
    ["500ms", 500],
    ["30s", 30_000],
    ["1.5h", 5_400_000],
    ["7d", 604_800_000],
    ["2w", 1_209_600_000]
  ])("reads %s", ([text, milliseconds]) => assert.strictEqual(Result.getOrThrow(Spans.parse(text)), milliseconds))

  it.for(["", "5", "5 minutes", "-5s", "s", "1e3s", "5y", "NaNs"])("refuses %j", (text) => {
    assert.isTrue(Result.isFailure(Spans.parse(text)))
  })

  it("says how far away an instant is", () => {
    assert.strictEqual(Spans.ago(1_000, 61_000), "1m ago")
    assert.strictEqual(Spans.ago(61_000, 1_000), "in 1m")
  })

  it("puts thousands apart", () => assert.strictEqual(Spans.count(1_234_567), "1,234,567"))
})

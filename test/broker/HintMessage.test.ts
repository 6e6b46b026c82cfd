import { assert, describe, it } from "@effect/vitest"
import * as HintMessage from "../../src/broker/HintMessage.ts"

const hint = {
  jobId: "0193a1e0-7a7b-7c3d-8e4f-000000000001",
  queue: "mail \u0001 é✓",
  priority: 3,
  attempt: 7,
  publication: 2
}
const changed = (change: Record<string, unknown>) =>
  JSON.stringify({ ...JSON.parse(HintMessage.encode(hint)), ...change })

describe("HintMessage", () => {
  it("decodes what it encoded", () => {
    assert.deepStrictEqual(HintMessage.decode(HintMessage.encode(hint)), hint)
  })

  it("is short and in printable form", () => {
    const text = HintMessage.encode({ ...hint, queue: "default" })
    assert.isAtMost(text.length, 120)
    assert.notMatch(HintMessage.encode(hint), /\p{Cc}/u)
  })

  it("ignores members that a newer version may add", () => {
    assert.deepStrictEqual(HintMessage.decode(changed({ extra: { deep: 1 } })), hint)
  })

  it.each([
    ["nothing", ""],
    ["a word", "hello"],
    ["a number", "42"],
    ["null", "null"],
    ["a list", "[1]"],
    ["half a message", HintMessage.encode(hint).slice(0, 40)],
    ["another version", changed({ pq: 2 })],
    ["no version", changed({ pq: undefined })],
    ["an id that is no UUID", changed({ j: "1; drop table jobs" })],
    ["an id of another type", changed({ j: 1 })],
    ["no queue", changed({ q: "" })],
    ["a negative attempt", changed({ a: -1 })],
    ["a fractional priority", changed({ p: 0.5 })],
    ["an attempt that no integer column holds", changed({ a: 2_147_483_648 })],
    ["a publication of another type", changed({ n: "1" })]
  ])("answers undefined for %s", (_, text) => {
    assert.isUndefined(HintMessage.decode(text))
  })
})

/** The ordered set of the memory store, against a sorted array: whatever was added and taken out, the first is right. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { OrderedSet } from "../../../src/store/memory/OrderedSet.ts"

const member = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 }))
const steps = Arbitrary.array(Arbitrary.schema(Schema.Struct({ add: Schema.Boolean, member })), { maxLength: 200 })

describe("OrderedSet", () => {
  it.prop(
    "its first member is the least of those that are in",
    [steps],
    ([steps]) => {
      const set = new OrderedSet<number>((a, b) => a - b)
      const model = new Set<number>()
      for (const { add, member } of steps) {
        if (add) {
          set.add(member)
          model.add(member)
        } else {
          set.delete(member)
          model.delete(member)
        }
        assert.deepStrictEqual([set.first, set.size], [[...model].sort((a, b) => a - b)[0], model.size])
      }
    },
    { arbitrary: { runs: 200 } }
  )

  it("takes a member from under another branch", () => {
    // The last leaf replaces a member whose parent it must pass
    const set = new OrderedSet<number>((a, b) => a - b)
    for (const member of [0, 10, 1, 11, 12, 2, 3]) set.add(member)
    const drained = [11]
    set.delete(11)
    for (let first = set.first; first !== undefined; first = set.first) {
      drained.push(first)
      set.delete(first)
    }
    assert.deepStrictEqual(drained, [11, 0, 1, 2, 3, 10, 12])
  })
})

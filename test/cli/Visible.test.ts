/** What others wrote can do nothing to a terminal, and JSON keeps its value. */
import { assert, describe, it } from "vitest"
import * as Visible from "../../src/cli/Visible.ts"
import { forbidden } from "../support/Terminal.ts"

/** Every UTF-16 code unit, and the astral characters of the unsafe kinds. */
const everything = [
  ...Array.from({ length: 0x10000 }, (_, i) => String.fromCharCode(i)),
  ..."\u{e0001}\u{e0041}\u{e007f}\u{1d173}\u{110bd}"
]

describe("Visible", () => {
  it("no character of any kind that moves, hides or reorders comes through", () => {
    for (const character of everything) {
      assert.notMatch(Visible.line(`a${character}b`).replace("\n", "\u0000"), forbidden, JSON.stringify(character))
      assert.notMatch(
        Visible.json({ [character]: character }).replaceAll("\n", ""),
        forbidden,
        JSON.stringify(character)
      )
    }
  })

  it("what is harmless stays as it is", () => {
    const text = 'Grüße, 你好, café, 👩‍💻, עברית, नमस्ते, C:\\path "quoted" 100%'
    assert.strictEqual(Visible.line(text), text)
  })

  it("escapes are readable", () => {
    assert.strictEqual(Visible.line("\u001b[2J\n\t\u009b31m\u202egpj.exe"), "\\u001b[2J\\n\\t\\u009b31m\\u202egpj.exe")
    assert.deepStrictEqual(Visible.lines("one\r\ntwo\u0007"), ["one", "two\\u0007"])
  })

  it("JSON is the same value to a parser", () => {
    for (const character of everything) {
      const value = { [`k${character}`]: [`v${character}`, 1, null] }
      assert.deepStrictEqual(JSON.parse(Visible.json(value, 2)), value)
    }
  })

  it("fits into cells, not characters", () => {
    assert.strictEqual(Visible.fit("abcdef", 6), "abcdef")
    assert.strictEqual(Visible.fit("abcdefg", 6), "abcde…")
    assert.strictEqual(Visible.fit("你好世界", 6), "你好…")
    assert.strictEqual(Visible.fit("👩‍💻👩‍💻👩‍💻", 5), "👩‍💻👩‍💻…")
    assert.isAtMost(Visible.fit("x".repeat(5_000_000), 20).length, 20)
  })
})

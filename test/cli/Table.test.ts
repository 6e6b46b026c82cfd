/** Tables are aligned by cells, shrink only where they may, and never let a control character through. */
import { CliOutput } from "effect/cli"
import { assert, describe, expect, it } from "vitest"
import * as Table from "../../src/cli/Table.ts"

interface Row {
  readonly id: string
  readonly name: string
  readonly count: number
}

const columns: ReadonlyArray<Table.Column<Row>> = [
  { title: "ID", cell: ({ id }) => id },
  { title: "NAME", cell: ({ name }) => name, flexible: true },
  { title: "COUNT", cell: ({ count }) => count, align: "right" }
]

const rows: ReadonlyArray<Row> = [
  { id: "01890a5d-ac96-774b-bcce-b302099a8057", name: "plain", count: 7 },
  { id: "2", name: "wide 你好世界 and a family 👨‍👩‍👧", count: 1_000 },
  { id: "3", name: "combining e\u0301 and \u001b[31mred\u001b[0m", count: 0 }
]

const render = (width: number | undefined) => Table.render(columns, rows, { width, heading: (text) => text })

describe("Table", () => {
  it("aligns by the cells of the terminal", () => {
    expect(render(undefined).join("\n")).toMatchInlineSnapshot(`
      "ID                                    NAME                                    COUNT
      01890a5d-ac96-774b-bcce-b302099a8057  plain                                       7
      2                                     wide 你好世界 and a family 👨‍👩‍👧            1000
      3                                     combining é and \\u001b[31mred\\u001b[0m      0"
    `)
    const ends = render(undefined).map((line) => CliOutput.displayWidth(line))
    assert.strictEqual(new Set(ends).size, 1, "the right column ends at one place")
  })

  it("shrinks flexible columns to the terminal, and no id", () => {
    const lines = render(60)
    expect(lines.join("\n")).toMatchInlineSnapshot(`
      "ID                                    NAME             COUNT
      01890a5d-ac96-774b-bcce-b302099a8057  plain                7
      2                                     wide 你好世界 …   1000
      3                                     combining é an…      0"
    `)
    for (const line of lines) assert.isAtMost(CliOutput.displayWidth(line), 60)
    assert.include(lines[1], rows[0]!.id)
  })

  it("where even that is too wide, ids stay whole", () => {
    assert.include(render(20)[1], rows[0]!.id)
  })

  it("shows details below each other, values of several lines too", () => {
    const lines = Table.details(
      [
        ["id", "1"],
        ["a longer name", "first\nsecond\u0007"],
        ["absent", undefined]
      ],
      (text) => text
    )
    expect(lines.join("\n")).toMatchInlineSnapshot(`
      "id             1
      a longer name  first
                     second\\u0007"
    `)
  })
})

/** The fault matrix: every cell there is. */
import type { Cell } from "./Cell.ts"
import { cells as death } from "./cells/Death.ts"
import { cells as outage } from "./cells/Outage.ts"

const order = (name: string): string => `${"WPBQMA".indexOf(name[0]!)}${name.slice(1).padStart(3, "0")}`

export const cells: ReadonlyArray<Cell> = [...death, ...outage].toSorted((a, b) =>
  order(a.name) < order(b.name) ? -1 : 1
)

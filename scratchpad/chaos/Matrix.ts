/** The fault matrix: every cell there is. */
import type { Cell } from "./Cell.ts"
import { cells as carrier } from "./cells/Carrier.ts"
import { cells as database } from "./cells/Database.ts"
import { cells as death } from "./cells/Death.ts"
import { cells as ending } from "./cells/Ending.ts"
import { cells as enqueue } from "./cells/Enqueue.ts"
import { cells as outage } from "./cells/Outage.ts"
import { cells as people } from "./cells/People.ts"
import { cells as sessions } from "./cells/Sessions.ts"
import { cells as standstill } from "./cells/Standstill.ts"
import { cells as time } from "./cells/Time.ts"
import { cells as upkeep } from "./cells/Upkeep.ts"

const order = (name: string): string => `${"WPBQMA".indexOf(name[0]!)}${name.slice(1).padStart(3, "0")}`

/** Workers, PostgreSQL, brokers, enqueues, maintenance, people: in this order. */
export const cells: ReadonlyArray<Cell> = [
  ...death,
  ...standstill,
  ...ending,
  ...time,
  ...outage,
  ...sessions,
  ...database,
  ...carrier,
  ...enqueue,
  ...upkeep,
  ...people
].toSorted((a, b) => (order(a.name) < order(b.name) ? -1 : 1))

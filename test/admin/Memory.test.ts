import { Polyqueue } from "../../src/index.ts"
import { suite } from "./suite.ts"

suite("memory", Polyqueue.layerMemory)
suite("embedded Postgres", Polyqueue.layerEmbedded())

/** A broker as a process is told of it: plain data. Loads no client library but the one it needs. */
import type * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import { Broker, type BrokerError } from "../../src/index.ts"
import { brokerOf, type BrokerSpec } from "../../test/crash/brokers.ts"

/** `memory`: each process rings for itself only, and finds the rest by looking. */
export type Spec = BrokerSpec | { readonly name: "memory" }

/** The layer of a spec. */
export const layerOf = (spec: Spec): Layer.Layer<Broker, BrokerError, SqlClient> =>
  spec.name === "memory" ? Broker.layerMemory : brokerOf(spec)

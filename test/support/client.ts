/** The client of the tests: sessions as the server gives them, without what the product sets for itself. */
import postgres from "postgres";

export type Sql = postgres.Sql;

export interface ClientOptions {
  /** Connections at most. */
  max?: number;
  applicationName?: string;
  onNotice?: (notice: postgres.Notice) => void;
  /** Session settings, such as `default_transaction_isolation`. */
  settings?: Record<string, string>;
}

/** A pool of connections; bigint, numeric, dates and timestamps arrive as the text the database gives them. */
export function connect(url: string, options: ClientOptions = {}): Sql {
  return postgres(url, {
    max: options.max ?? 4,
    connect_timeout: 10,
    max_lifetime: null,
    onnotice: options.onNotice ?? (() => {}),
    connection: {
      application_name: options.applicationName ?? "reporting-rollup",
      ...options.settings,
    },
    types: {
      date: {
        to: 1184,
        from: [1082, 1114, 1184],
        serialize: (value: string | Date) => (value instanceof Date ? value.toISOString() : value),
        parse: (value: string) => value,
      },
    },
  });
}

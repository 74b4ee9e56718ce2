// One delivery: the signature of the raw body, then one statement that locks one level, writes one ledger row unless its
// identity is known, and updates the level. Fastify, pino and pg run with their defaults (one process, 10 connections); each
// delivery writes one log line instead of pino's two.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";

const APPLY = {
  name: "apply",
  text: `
WITH level AS (
  SELECT quantity, version FROM stock_level WHERE store_id = $1 AND item_id = $2 FOR NO KEY UPDATE
), entry AS (
  INSERT INTO stock_movement (store_id, item_id, level_version, source, inventory_system_id, movement_type, quantity,
    balance_after, reported_stock, date_text, sent_at_text, dedupe_key)
  SELECT $1, $2, version + 1, 'inventory_system', $3, $4::int, $5::numeric,
    quantity + CASE WHEN $4::int = 1 THEN $5::numeric ELSE -$5::numeric END, $6::numeric, $7, $8, $9
  FROM level
  ON CONFLICT (store_id, dedupe_key, occurrence) DO NOTHING
  RETURNING level_version, balance_after
), changed AS (
  UPDATE stock_level SET quantity = balance_after, version = level_version, updated_at = now()
  FROM entry WHERE store_id = $1 AND item_id = $2
)
SELECT (SELECT count(*) FROM level)::int AS levels, (SELECT level_version FROM entry) AS version,
  (SELECT balance_after FROM entry) AS balance`,
};
const TEXT_OR_NUMBER = { type: ["string", "number"] };
const BODY = {
  type: "object",
  required: [
    "inventory_system_id", "store_id", "external_id", "movement_type", "quantity", "current_stock", "date", "now",
  ],
  properties: {
    inventory_system_id: TEXT_OR_NUMBER,
    store_id: TEXT_OR_NUMBER,
    external_id: TEXT_OR_NUMBER,
    movement_type: { enum: [1, 2, "1", "2"] },
    quantity: TEXT_OR_NUMBER,
    current_stock: TEXT_OR_NUMBER,
    date: { type: "string", maxLength: 64 },
    now: { type: "string", maxLength: 64 },
  },
};

const secret = process.env.MIPOS_CLIENT_SECRET;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const app = Fastify({ logger: true, disableRequestLogging: true, ajv: { customOptions: { coerceTypes: false, allowUnionTypes: true } } });

app.removeContentTypeParser("application/json");
app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, raw, done) => {
  const claimed = Buffer.from(String(request.headers["x-signature-request"] ?? ""), "hex");
  const digest = createHmac("sha256", secret).update(raw).digest();
  if (claimed.length !== digest.length || !timingSafeEqual(claimed, digest)) {
    done(Object.assign(new Error("The signature is wrong."), { statusCode: 401 }));
    return;
  }
  try {
    done(null, JSON.parse(raw.toString("utf8")));
  } catch (error) {
    done(Object.assign(error, { statusCode: 400 }));
  }
});

app.get("/livez", async () => ({ message: "Alive." }));

app.post("/webhooks/stock", { schema: { body: BODY } }, async (request, reply) => {
  const started = process.hrtime.bigint();
  const body = request.body;
  const [store, item, system] = [String(body.store_id), String(body.external_id), String(body.inventory_system_id)];
  const [type, quantity, stock] = [Number(body.movement_type), String(body.quantity), String(body.current_stock)];
  const hash = createHash("sha256").update(JSON.stringify([system, store, item, type, quantity, stock, body.date])).digest();
  // The ledger's check wants the date before the hash.
  const date = Buffer.alloc(10);
  date.write(body.date);
  const key = Buffer.concat([date, hash.subarray(10)]);
  const values = [store, item, system, type, quantity, stock, body.date, body.now, key];
  const { rows: [row] } = await pool.query({ ...APPLY, values });
  if (row.levels === 0) {
    return reply.code(409).send({ message: "The POS has no such item." });
  }
  const milliseconds = Number(process.hrtime.bigint() - started) / 1e6;
  request.log.info(
    { outcome: row.version === null ? "already_applied" : "applied", status: 204, milliseconds, store_id: store, item_id: item,
      inventory_system_id: system, movement_type: type, quantity, balance: row.balance, level_version: row.version },
    "delivery",
  );
  return reply.code(204).send();
});

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, async () => {
    await app.close();
    await pool.end();
    process.exit(0);
  });
}

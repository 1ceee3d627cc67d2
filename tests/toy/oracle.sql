-- What should the toy's derived tables be? Recomputed in DuckDB from the bytes that arrived; shares no code with the transforms.
--
-- Input: the views bronze_toy_makers and bronze_toy_items (value as JSON text in bytes, of Avro too; topic, partition, kafka_offset, kafka_ts, source_run).
-- Output: tables toy_named_items, toy_maker_days, toy_makers, toy_countries, toy_hours, toy_runs.

CREATE VIEW maker_versions AS
SELECT (j->>'maker_id')::BIGINT AS maker_id, j->>'maker_name' AS maker_name, j->>'country' AS country,
  (j->>'is_trusted')::BOOLEAN AS is_trusted, (j->>'is_gone')::BOOLEAN AS is_gone, (j->>'changed_ts')::BIGINT AS changed_ms
FROM (SELECT CASE WHEN json_valid(decode(value)) THEN decode(value)::JSON END AS j FROM bronze_toy_makers WHERE value IS NOT NULL)
WHERE j->>'maker_id' IS NOT NULL AND j->>'changed_ts' IS NOT NULL;

CREATE VIEW item_versions AS
SELECT j->>'item_id' AS item_id, (j->>'maker_id')::BIGINT AS maker_id,
  (j->>'sold_ts')::TIMESTAMPTZ AS sold_ts, (j->>'price')::DECIMAL(12, 2) AS price, (j->>'is_new')::BOOLEAN AS is_new,
  (j->>'is_gone')::BOOLEAN AS is_gone, (j->>'changed_ts')::TIMESTAMPTZ AS changed_ts
FROM (SELECT CASE WHEN json_valid(decode(value)) THEN decode(value)::JSON END AS j FROM bronze_toy_items WHERE value IS NOT NULL)
WHERE j->>'item_id' IS NOT NULL AND j->>'maker_id' IS NOT NULL AND j->>'sold_ts' IS NOT NULL AND j->>'changed_ts' IS NOT NULL
  AND coalesce((j->>'price')::DECIMAL(18, 2) BETWEEN 0 AND 100000, true);

CREATE VIEW makers AS
SELECT * FROM maker_versions QUALIFY row_number() OVER (PARTITION BY maker_id ORDER BY changed_ms DESC) = 1;
CREATE VIEW items AS
SELECT * FROM item_versions QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY changed_ts DESC) = 1;
CREATE VIEW makers_there AS SELECT * FROM makers WHERE is_gone IS NOT TRUE;
CREATE VIEW items_there AS SELECT * FROM items WHERE is_gone IS NOT TRUE;

CREATE TABLE toy_named_items AS
SELECT i.item_id, i.maker_id, coalesce(m.maker_name, 'unknown') AS maker_name, coalesce(m.country, 'unknown') AS country,
  i.sold_ts::DATE AS sold_date, i.price, i.is_new IS TRUE AS is_new
FROM items_there i LEFT JOIN makers_there m USING (maker_id);

CREATE TABLE toy_maker_days AS
SELECT maker_id, sold_ts::DATE AS day, count(*) AS items, count(*) FILTER (WHERE is_new) AS new_items,
  sum(price)::DECIMAL(22, 2) AS revenue
FROM items_there GROUP BY ALL;

CREATE TABLE toy_makers AS
SELECT m.maker_id, coalesce(m.maker_name, 'unknown') AS maker_name, coalesce(m.country, 'unknown') AS country,
  m.is_trusted IS TRUE AS is_trusted, count(i.item_id) AS items, coalesce(sum(i.price), 0)::DECIMAL(24, 2) AS revenue,
  max(i.sold_ts)::DATE AS last_day
FROM makers_there m LEFT JOIN items_there i USING (maker_id) GROUP BY ALL;

CREATE TABLE toy_countries AS
SELECT *, (rank() OVER (ORDER BY revenue DESC, country))::INT AS place FROM (
  SELECT country, count(*) AS makers, count(*) FILTER (WHERE is_trusted) AS trusted, sum(revenue)::DECIMAL(26, 2) AS revenue
  FROM toy_makers GROUP BY ALL);

CREATE TABLE toy_hours AS
WITH hours AS (SELECT maker_id, date_trunc('hour', sold_ts) AS hour_ts, count(*) AS sold FROM items_there GROUP BY ALL),
  grid AS (SELECT DISTINCT maker_id, hour_ts + to_hours(unnest(range(4))) AS hour_ts FROM hours)
SELECT g.maker_id, g.hour_ts, coalesce(max(h.sold) FILTER (WHERE h.hour_ts = g.hour_ts), 0)::BIGINT AS sold,
  sum(h.sold)::BIGINT AS sold_of_four
FROM grid g JOIN hours h ON h.maker_id = g.maker_id AND h.hour_ts BETWEEN g.hour_ts - INTERVAL 3 HOUR AND g.hour_ts
GROUP BY ALL;

CREATE TABLE toy_runs AS
WITH starts AS (
  SELECT *, lag(hour_ts) OVER (PARTITION BY maker_id ORDER BY hour_ts) IS DISTINCT FROM hour_ts - INTERVAL 1 HOUR AS is_first FROM toy_hours),
  numbered AS (SELECT *, count(*) FILTER (WHERE is_first) OVER (PARTITION BY maker_id ORDER BY hour_ts) AS run FROM starts)
SELECT maker_id, min(hour_ts) AS start_ts, max(hour_ts) AS end_ts, sum(sold)::BIGINT AS sold FROM numbered GROUP BY maker_id, run;

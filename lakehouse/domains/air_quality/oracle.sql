-- What should gold be? An independent recomputation in DuckDB, from the bytes that arrived; shares no code with lakehouse/.
--
-- Input: the view `bronze` (value, topic, partition, kafka_offset, kafka_ts, source_run), the view `dim_location`
-- (location_key, timezone), the view `dim_zone_offset` (timezone, from_ts, offset_seconds), and the variables aqi_rule (us-epa-2012 or us-epa-2024) and rule_code (such as AQI>=151_4h).
-- Output: tables fact_air_quality_hourly, fact_city_daily, fact_episode.

SET VARIABLE threshold = (SELECT regexp_extract(getvariable('rule_code'), '^AQI>=(\d+)_(\d+)h$', 1)::INT);
SET VARIABLE least_hours = (SELECT regexp_extract(getvariable('rule_code'), '^AQI>=(\d+)_(\d+)h$', 2)::INT);

CREATE OR REPLACE MACRO segment(c, c0, c1, i0, i1) AS i0 + (c - c0) * ((i1 - i0) / (c1 - c0));

CREATE OR REPLACE MACRO pm25_2012(c) AS CASE
  WHEN c < 12 THEN segment(c, 0, 12, 0, 50) WHEN c < 35.5 THEN segment(c, 12, 35.5, 50, 100)
  WHEN c < 55.5 THEN segment(c, 35.5, 55.5, 100, 150) WHEN c < 150.5 THEN segment(c, 55.5, 150.5, 150, 200)
  WHEN c < 250.5 THEN segment(c, 150.5, 250.5, 200, 300) WHEN c < 350.5 THEN segment(c, 250.5, 350.5, 300, 400)
  WHEN c >= 350.5 THEN segment(c, 350.5, 500.5, 400, 500) END;
CREATE OR REPLACE MACRO pm10_index(c) AS CASE
  WHEN c < 55 THEN segment(c, 0, 55, 0, 50) WHEN c < 155 THEN segment(c, 55, 155, 50, 100)
  WHEN c < 255 THEN segment(c, 155, 255, 100, 150) WHEN c < 355 THEN segment(c, 255, 355, 150, 200)
  WHEN c < 425 THEN segment(c, 355, 425, 200, 300) WHEN c < 505 THEN segment(c, 425, 505, 300, 400)
  WHEN c >= 505 THEN segment(c, 505, 605, 400, 500) END;
CREATE OR REPLACE MACRO o3_8h(c) AS CASE
  WHEN c < 55 THEN segment(c, 0, 55, 0, 50) WHEN c < 70 THEN segment(c, 55, 70, 50, 100)
  WHEN c < 85 THEN segment(c, 70, 85, 100, 150) WHEN c < 105 THEN segment(c, 85, 105, 150, 200)
  WHEN c <= 200 THEN segment(c, 105, 200, 200, 300) END;
CREATE OR REPLACE MACRO o3_1h(c) AS CASE
  WHEN c < 125 THEN NULL WHEN c < 165 THEN segment(c, 125, 165, 100, 150)
  WHEN c < 205 THEN segment(c, 165, 205, 150, 200) WHEN c < 405 THEN segment(c, 205, 405, 200, 300)
  WHEN c < 505 THEN segment(c, 405, 505, 300, 400) WHEN c >= 505 THEN segment(c, 505, 605, 400, 500) END;
CREATE OR REPLACE MACRO no2_index(c) AS CASE
  WHEN c < 54 THEN segment(c, 0, 54, 0, 50) WHEN c < 100 THEN segment(c, 54, 100, 50, 100)
  WHEN c < 360 THEN segment(c, 100, 360, 100, 150) WHEN c < 650 THEN segment(c, 360, 650, 150, 200)
  WHEN c < 1250 THEN segment(c, 650, 1250, 200, 300) WHEN c < 1650 THEN segment(c, 1250, 1650, 300, 400)
  WHEN c >= 1650 THEN segment(c, 1650, 2050, 400, 500) END;
CREATE OR REPLACE MACRO so2_1h(c) AS CASE
  WHEN c < 35 THEN segment(c, 0, 35, 0, 50) WHEN c < 75 THEN segment(c, 35, 75, 50, 100)
  WHEN c < 185 THEN segment(c, 75, 185, 100, 150) WHEN c < 305 THEN segment(c, 185, 305, 150, 200)
  WHEN c >= 305 THEN 200.0 END;
CREATE OR REPLACE MACRO so2_24h(c) AS CASE
  WHEN c < 304 THEN NULL WHEN c < 604 THEN segment(c, 304, 604, 200, 300)
  WHEN c < 804 THEN segment(c, 604, 804, 300, 400) WHEN c >= 804 THEN segment(c, 804, 1004, 400, 500) END;
CREATE OR REPLACE MACRO co_index(c) AS CASE
  WHEN c < 4.5 THEN segment(c, 0, 4.5, 0, 50) WHEN c < 9.5 THEN segment(c, 4.5, 9.5, 50, 100)
  WHEN c < 12.5 THEN segment(c, 9.5, 12.5, 100, 150) WHEN c < 15.5 THEN segment(c, 12.5, 15.5, 150, 200)
  WHEN c < 30.5 THEN segment(c, 15.5, 30.5, 200, 300) WHEN c < 40.5 THEN segment(c, 30.5, 40.5, 300, 400)
  WHEN c >= 40.5 THEN segment(c, 40.5, 50.5, 400, 500) END;
-- The edition of 2024, EPA-454/B-24-002 table 6: concentrations truncated (tenths for PM2.5 and CO, whole ones for the rest, ozone in ppb),
-- rows with gaps between them. Each takes the truncated number, PM2.5 and CO in tenths. A sum of doubles may lie a last bit below.
CREATE OR REPLACE MACRO whole(c) AS floor(c + 1e-9);
CREATE OR REPLACE MACRO tenths(c) AS floor(c * 10 + 1e-9);
CREATE OR REPLACE MACRO pm25_2024(n) AS CASE
  WHEN n <= 90 THEN segment(n, 0, 90, 0, 50) WHEN n <= 354 THEN segment(n, 91, 354, 51, 100) WHEN n <= 554 THEN segment(n, 355, 554, 101, 150)
  WHEN n <= 1254 THEN segment(n, 555, 1254, 151, 200) WHEN n <= 2254 THEN segment(n, 1255, 2254, 201, 300)
  WHEN n > 2254 THEN segment(n, 2255, 3254, 301, 500) END;
CREATE OR REPLACE MACRO pm10_2024(n) AS CASE
  WHEN n <= 54 THEN segment(n, 0, 54, 0, 50) WHEN n <= 154 THEN segment(n, 55, 154, 51, 100) WHEN n <= 254 THEN segment(n, 155, 254, 101, 150)
  WHEN n <= 354 THEN segment(n, 255, 354, 151, 200) WHEN n <= 424 THEN segment(n, 355, 424, 201, 300)
  WHEN n > 424 THEN segment(n, 425, 604, 301, 500) END;
CREATE OR REPLACE MACRO o3_8h_2024(n) AS CASE
  WHEN n <= 54 THEN segment(n, 0, 54, 0, 50) WHEN n <= 70 THEN segment(n, 55, 70, 51, 100) WHEN n <= 85 THEN segment(n, 71, 85, 101, 150)
  WHEN n <= 105 THEN segment(n, 86, 105, 151, 200) WHEN n <= 200 THEN segment(n, 106, 200, 201, 300) END;
CREATE OR REPLACE MACRO o3_1h_2024(n) AS CASE
  WHEN n < 125 THEN NULL WHEN n <= 164 THEN segment(n, 125, 164, 101, 150) WHEN n <= 204 THEN segment(n, 165, 204, 151, 200)
  WHEN n <= 404 THEN segment(n, 205, 404, 201, 300) WHEN n > 404 THEN segment(n, 405, 604, 301, 500) END;
CREATE OR REPLACE MACRO no2_2024(n) AS CASE
  WHEN n <= 53 THEN segment(n, 0, 53, 0, 50) WHEN n <= 100 THEN segment(n, 54, 100, 51, 100) WHEN n <= 360 THEN segment(n, 101, 360, 101, 150)
  WHEN n <= 649 THEN segment(n, 361, 649, 151, 200) WHEN n <= 1249 THEN segment(n, 650, 1249, 201, 300)
  WHEN n > 1249 THEN segment(n, 1250, 2049, 301, 500) END;
CREATE OR REPLACE MACRO so2_1h_2024(n) AS CASE
  WHEN n <= 35 THEN segment(n, 0, 35, 0, 50) WHEN n <= 75 THEN segment(n, 36, 75, 51, 100) WHEN n <= 185 THEN segment(n, 76, 185, 101, 150)
  WHEN n <= 304 THEN segment(n, 186, 304, 151, 200) WHEN n > 304 THEN 200.0 END;
CREATE OR REPLACE MACRO so2_24h_2024(n) AS CASE
  WHEN n < 305 THEN NULL WHEN n <= 604 THEN segment(n, 305, 604, 201, 300) WHEN n > 604 THEN segment(n, 605, 1004, 301, 500) END;
CREATE OR REPLACE MACRO co_2024(n) AS CASE
  WHEN n <= 44 THEN segment(n, 0, 44, 0, 50) WHEN n <= 94 THEN segment(n, 45, 94, 51, 100) WHEN n <= 124 THEN segment(n, 95, 124, 101, 150)
  WHEN n <= 154 THEN segment(n, 125, 154, 151, 200) WHEN n <= 304 THEN segment(n, 155, 304, 201, 300)
  WHEN n > 304 THEN segment(n, 305, 504, 301, 500) END;

CREATE OR REPLACE MACRO first_largest(pm25, pm10, o3, no2, so2, co) AS CASE greatest(pm25, pm10, o3, no2, so2, co)
  WHEN pm25 THEN 'pm25' WHEN pm10 THEN 'pm10' WHEN o3 THEN 'o3' WHEN no2 THEN 'no2' WHEN so2 THEN 'so2' WHEN co THEN 'co' END;

CREATE OR REPLACE VIEW places AS SELECT location_key, timezone FROM dim_location;

CREATE OR REPLACE VIEW messages AS
SELECT decode(value)::JSON AS j, kafka_ts, coalesce(topic, source_run) AS topic, coalesce("partition", 0) AS part, kafka_offset
FROM bronze WHERE json_valid(try(decode(value)));

-- Values of another type are left out below; TRY_CAST, because DuckDB casts before it has left them out.
CREATE OR REPLACE VIEW readings AS
SELECT
  j->>'location_key' AS location_key,
  TRY(make_timestamptz(TRY_CAST(j->>'ts_utc' AS BIGINT) * 1000)) AS ts_utc,
  TRY(make_timestamptz(TRY_CAST(j->>'retrieved_ts' AS BIGINT) * 1000)) AS retrieved_ts,
  TRY_CAST(j->'pm25' AS DOUBLE) AS pm25, TRY_CAST(j->'pm10' AS DOUBLE) AS pm10, TRY_CAST(j->'o3' AS DOUBLE) AS o3, TRY_CAST(j->'no2' AS DOUBLE) AS no2,
  TRY_CAST(j->'so2' AS DOUBLE) AS so2, TRY_CAST(j->'co' AS DOUBLE) AS co, TRY_CAST(j->'aod' AS DOUBLE) AS aod, TRY_CAST(j->'dust' AS DOUBLE) AS dust,
  TRY_CAST(j->'uv_index' AS DOUBLE) AS uv_index, TRY_CAST(j->'co2' AS DOUBLE) AS co2, TRY_CAST(j->'us_aqi' AS DOUBLE) AS us_aqi,
  TRY_CAST(j->'us_aqi_pm25' AS DOUBLE) AS us_aqi_pm25, TRY_CAST(j->'us_aqi_pm10' AS DOUBLE) AS us_aqi_pm10, TRY_CAST(j->'us_aqi_no2' AS DOUBLE) AS us_aqi_no2,
  TRY_CAST(j->'us_aqi_o3' AS DOUBLE) AS us_aqi_o3, TRY_CAST(j->'us_aqi_so2' AS DOUBLE) AS us_aqi_so2, TRY_CAST(j->'us_aqi_co' AS DOUBLE) AS us_aqi_co,
  TRY_CAST(j->'latitude' AS DOUBLE) AS latitude, TRY_CAST(j->'longitude' AS DOUBLE) AS longitude,
  j->>'model_domain' AS model_domain, j->>'request_timezone' AS request_timezone, kafka_ts,
  -- A backfilled row did not come through Kafka: it arrived when it was retrieved.
  coalesce(kafka_ts, TRY(make_timestamptz(TRY_CAST(j->>'retrieved_ts' AS BIGINT) * 1000))) AS arrived_ts
FROM messages
WHERE json_type(j) = 'OBJECT' AND json_type(j->'ts_utc') IN ('BIGINT', 'UBIGINT') AND json_type(j->'retrieved_ts') IN ('BIGINT', 'UBIGINT')
  AND NOT list_bool_or([json_type(j->f) NOT IN ('DOUBLE', 'BIGINT', 'UBIGINT', 'NULL') AND json_type(j->f) IS NOT NULL
    FOR f IN ['pm25','pm10','o3','no2','so2','co','aod','dust','uv_index','co2','us_aqi','us_aqi_pm25','us_aqi_pm10',
      'us_aqi_no2','us_aqi_o3','us_aqi_so2','us_aqi_co','latitude','longitude']]);

-- The newest retrieval of an hour; of equal ones that whose values compare greater, column by column.
CREATE OR REPLACE VIEW clean_hours AS
SELECT * EXCLUDE (newest) FROM (
  SELECT r.*, row_number() OVER (PARTITION BY location_key, ts_utc ORDER BY retrieved_ts DESC, latitude DESC NULLS LAST, longitude DESC NULLS LAST,
    pm25 DESC NULLS LAST, pm10 DESC NULLS LAST, o3 DESC NULLS LAST, no2 DESC NULLS LAST, so2 DESC NULLS LAST, co DESC NULLS LAST,
    aod DESC NULLS LAST, dust DESC NULLS LAST, uv_index DESC NULLS LAST, co2 DESC NULLS LAST, us_aqi DESC NULLS LAST) AS newest
  FROM readings r JOIN places USING (location_key)
  WHERE epoch(ts_utc) % 3600 = 0 AND ts_utc >= '2013-01-01 00:00:00+00' AND ts_utc <= arrived_ts + INTERVAL 7 DAYS
    AND retrieved_ts <= arrived_ts + INTERVAL 1 HOUR
    AND coalesce(pm25 BETWEEN 0 AND 1000, true) AND coalesce(pm10 BETWEEN 0 AND 10000, true) AND coalesce(o3 BETWEEN 0 AND 2000, true)
    AND coalesce(no2 BETWEEN 0 AND 5000, true) AND coalesce(so2 BETWEEN 0 AND 10000, true) AND coalesce(co BETWEEN 0 AND 100000, true)
    AND coalesce(aod BETWEEN 0 AND 50, true) AND coalesce(dust BETWEEN 0 AND 20000, true) AND coalesce(uv_index BETWEEN 0 AND 50, true)
    AND coalesce(co2 BETWEEN 0 AND 5000, true) AND coalesce(us_aqi BETWEEN 0 AND 10000, true)
) WHERE newest = 1;

CREATE OR REPLACE TABLE fact_air_quality_hourly AS
WITH measured AS (SELECT * FROM clean_hours WHERE ts_utc <= retrieved_ts),
means AS (
  SELECT *,
    CASE WHEN count(pm25) OVER day_before >= 18 THEN avg(pm25) OVER day_before END AS pm25_24h,
    CASE WHEN count(pm10) OVER day_before >= 18 THEN avg(pm10) OVER day_before END AS pm10_24h,
    CASE WHEN count(so2) OVER day_before >= 18 THEN avg(so2) OVER day_before END AS so2_24h,
    CASE WHEN count(o3) OVER eight_before >= 6 THEN avg(o3) OVER eight_before END AS o3_8h,
    CASE WHEN count(co) OVER eight_before >= 6 THEN avg(co) OVER eight_before END AS co_8h
  FROM measured
  WINDOW
    day_before AS (PARTITION BY location_key ORDER BY ts_utc RANGE BETWEEN INTERVAL 24 HOURS PRECEDING AND INTERVAL 1 HOUR PRECEDING),
    eight_before AS (PARTITION BY location_key ORDER BY ts_utc RANGE BETWEEN INTERVAL 8 HOURS PRECEDING AND INTERVAL 1 HOUR PRECEDING)
),
indexed AS (
  SELECT *,
    pm25_2012(pm25_24h) AS i_pm25,
    pm10_index(pm10_24h) AS i_pm10,
    greatest(o3_8h(o3_8h / 1.96), o3_1h(o3 / 1.96)) AS i_o3,
    no2_index(no2 / 1.88) AS i_no2,
    greatest(so2_1h(so2 / 2.62), so2_24h(so2_24h / 2.62)) AS i_so2,
    co_index(co_8h / 1150) AS i_co
  FROM means WHERE getvariable('aqi_rule') = 'us-epa-2012'
  UNION ALL
  SELECT *,
    pm25_2024(tenths(pm25_24h)) AS i_pm25,
    pm10_2024(whole(pm10_24h)) AS i_pm10,
    greatest(o3_8h_2024(whole(o3_8h / 1.96)), o3_1h_2024(whole(o3 / 1.96))) AS i_o3,
    no2_2024(whole(no2 / 1.88)) AS i_no2,
    greatest(so2_1h_2024(whole(so2 / 2.62)), so2_24h_2024(whole(so2_24h / 2.62))) AS i_so2,
    co_2024(tenths(co_8h / 1150)) AS i_co
  FROM means WHERE getvariable('aqi_rule') = 'us-epa-2024'
)
SELECT
  location_key, ts_utc, ts_utc::DATE AS date_utc, strftime(ts_utc, '%Y%m%d')::INT AS date_key, hour(ts_utc)::INT AS time_key,
  strftime(local_ts, '%Y%m%d')::INT AS local_date_key, hour(local_ts)::INT AS local_time_key,
  pm25, pm10, o3, no2, so2, co, aod, dust, uv_index, co2,
  -- half up; a value that is a half in exact arithmetic may lie a last bit below
  floor(greatest(i_pm25, i_pm10, i_o3, i_no2, i_so2, i_co) + 0.5 + 1e-9)::INT AS aqi,
  i_pm25 AS aqi_pm25, i_pm10 AS aqi_pm10, i_o3 AS aqi_o3, i_no2 AS aqi_no2, i_so2 AS aqi_so2, i_co AS aqi_co,
  first_largest(i_pm25, i_pm10, i_o3, i_no2, i_so2, i_co) AS dominant_pollutant,
  10.0 * len(list_filter([pm25, pm10, o3, no2, so2, co, aod, dust, uv_index, co2], lambda v: v IS NOT NULL)) AS data_completeness,
  getvariable('aqi_rule') AS aqi_rule,
  us_aqi, us_aqi_pm25, us_aqi_pm10, us_aqi_no2, us_aqi_o3, us_aqi_so2, us_aqi_co, retrieved_ts
FROM (
  SELECT indexed.*, ts_utc + to_seconds(z.offset_seconds) AS local_ts FROM indexed JOIN places USING (location_key)
  ASOF JOIN dim_zone_offset z ON z.timezone = places.timezone AND ts_utc >= z.from_ts
);

CREATE OR REPLACE TABLE fact_city_daily AS
SELECT
  location_key, date_utc, date_key, avg(pm25) AS avg_pm25, min(pm25) AS min_pm25, max(pm25) AS max_pm25, avg(aqi) AS avg_aqi, max(aqi) AS max_aqi,
  count_if(aqi <= 50)::INT AS hours_good, count_if(aqi > 50 AND aqi <= 100)::INT AS hours_moderate, count_if(aqi > 100 AND aqi <= 150)::INT AS hours_usg,
  count_if(aqi > 150 AND aqi <= 200)::INT AS hours_unhealthy, count_if(aqi > 200 AND aqi <= 300)::INT AS hours_very_unhealthy,
  count_if(aqi > 300)::INT AS hours_hazardous, count(*)::INT AS hours_measured,
  first_largest(max(aqi_pm25), max(aqi_pm10), max(aqi_o3), max(aqi_no2), max(aqi_so2), max(aqi_co)) AS dominant_pollutant,
  count(*) / 24 * 100 AS data_completeness, getvariable('aqi_rule') AS aqi_rule
FROM fact_air_quality_hourly GROUP BY ALL;

CREATE OR REPLACE TABLE fact_episode AS
WITH steps AS (
  -- A new run begins where the hour before is missing or below the threshold.
  SELECT *, sum(CASE WHEN ts_utc - previous = INTERVAL 1 HOUR THEN 0 ELSE 1 END) OVER (PARTITION BY location_key ORDER BY ts_utc) AS run
  FROM (
    SELECT *, lag(ts_utc) OVER (PARTITION BY location_key ORDER BY ts_utc) AS previous
    FROM fact_air_quality_hourly WHERE aqi >= getvariable('threshold')
  )
),
runs AS (
  SELECT location_key, run, min(ts_utc) AS start_ts, max(ts_utc) AS end_ts, count(*) AS hours, avg(aqi) AS avg_aqi, max(aqi) AS peak_aqi,
    first_largest(max(aqi_pm25), max(aqi_pm10), max(aqi_o3), max(aqi_no2), max(aqi_so2), max(aqi_co)) AS dominant_pollutant
  FROM steps GROUP BY location_key, run HAVING count(*) >= getvariable('least_hours')
)
SELECT
  md5(location_key || '|' || strftime(start_ts, '%Y-%m-%dT%H:%M:%SZ') || '|AQI>=' || getvariable('threshold') || '_' || getvariable('least_hours') || 'h') AS episode_id,
  location_key, start_ts, end_ts, start_ts::DATE AS start_date_utc, date_diff('hour', start_ts, end_ts)::INT + 1 AS duration_hours,
  hours::INT AS hours_flagged, avg_aqi, peak_aqi, dominant_pollutant,
  CASE WHEN peak_aqi > 300 THEN 'hazardous' WHEN peak_aqi > 200 THEN 'very_unhealthy' ELSE 'unhealthy' END AS severity_level,
  'AQI>=' || getvariable('threshold') || '_' || getvariable('least_hours') || 'h' AS rule_code, getvariable('aqi_rule') AS aqi_rule
FROM runs;

-- What should Kaggle's derived tables be? Recomputed in DuckDB from the bytes that arrived; shares no code with the transforms.
--
-- The transforms give each version its days; here each day asks for the newest version up to it.
--
-- Input: the views bronze_kaggle_users, bronze_kaggle_datasets, bronze_kaggle_dataset_tags, bronze_kaggle_dumps and
-- bronze_kaggle_dataset_list (value as JSON text in bytes), the view dim_country (country, country_code), and the variables kaggle_country (names or strict) and kaggle_country_names.
-- Output: a table for each derived table.

CREATE MACRO instant(ms) AS make_timestamptz(ms::BIGINT * 1000);
CREATE MACRO parsed(v) AS CASE WHEN json_valid(decode(v)) THEN decode(v)::JSON END;
CREATE MACRO cleaned(t) AS trim(regexp_replace(translate(t, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'), '[^a-z0-9]+', '-', 'g'), '-');
CREATE MACRO class_of(n, total) AS CASE WHEN n > total / 10 THEN 'popular' WHEN n > total / 100 THEN 'common' WHEN n > 10 THEN 'regular' ELSE 'rare' END;
CREATE MACRO per_download(v, d) AS CASE WHEN d <> 0 THEN v::DOUBLE / d END;
CREATE MACRO day_key(d) AS strftime(d, '%Y%m%d')::INT;

-- Messages that pass the rules, the last of each key and day.
CREATE TABLE users_said AS
WITH said AS (
  SELECT (j->>'user_id')::BIGINT AS user_id, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    j->>'user_name' AS user_name, j->>'display_name' AS display_name, instant(j->>'signup_ts') AS signup_ts, j->>'country' AS country,
    (j->>'performance_tier')::BIGINT AS performance_tier, (j->>'location_sharing_opt_out')::BOOLEAN AS location_sharing_opt_out,
    coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone, j::VARCHAR AS whole
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_users WHERE value IS NOT NULL)
),
judged AS (
  SELECT s.*, CASE WHEN getvariable('kaggle_country') = 'strict' THEN translate(trim(s.country), 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ') ELSE c.country_code END AS country_code
  FROM said s LEFT JOIN dim_country c ON c.country = translate(trim(s.country), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
)
SELECT * FROM judged
WHERE user_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE AND (is_gone OR (
  coalesce(trim(user_name), '') <> '' AND CASE WHEN getvariable('kaggle_country') = 'strict' THEN coalesce(length(trim(country)) = 2, false)
    ELSE coalesce(trim(country), '') = '' OR country_code IS NOT NULL END))
QUALIFY row_number() OVER (PARTITION BY user_id, run_date ORDER BY run_ts DESC) = 1;

CREATE TABLE datasets_said AS
SELECT * FROM (
  SELECT (j->>'dataset_id')::BIGINT AS dataset_id, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    j->>'title' AS title, j->>'subtitle' AS subtitle, j->>'slug' AS slug, (j->>'owner_user_id')::BIGINT AS owner_user_id,
    (j->>'creator_user_id')::BIGINT AS creator_user_id, (j->>'owner_organization_id')::BIGINT AS owner_organization_id,
    j->>'dataset_type' AS dataset_type, (j->>'is_private')::BOOLEAN AS said_private, j->>'license_name' AS license_name,
    instant(j->>'created_ts') AS created_ts, instant(j->>'updated_ts') AS updated_ts, instant(j->>'last_activity_ts') AS last_activity_ts,
    (j->>'total_views')::BIGINT AS said_views, (j->>'total_downloads')::BIGINT AS said_downloads, (j->>'total_votes')::BIGINT AS total_votes,
    (j->>'total_kernels')::BIGINT AS total_kernels, coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_datasets WHERE value IS NOT NULL)
)
WHERE dataset_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
  AND coalesce(said_views >= 0, true) AND coalesce(said_downloads >= 0, true) AND coalesce(total_votes >= 0, true)
  AND coalesce(total_kernels >= 0, true)
  AND (is_gone OR (coalesce(trim(title), '') <> '' AND owner_user_id IS NOT NULL AND coalesce(updated_ts >= created_ts, true)))
QUALIFY row_number() OVER (PARTITION BY dataset_id, run_date ORDER BY run_ts DESC, updated_ts DESC NULLS LAST) = 1;

CREATE TABLE tags_said AS
SELECT *, cleaned(tag) AS clean FROM (
  SELECT (j->>'dataset_id')::BIGINT AS dataset_id, j->>'tag' AS tag, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    (j->>'tag_id')::BIGINT AS tag_id, j->>'tag_name' AS tag_name, j->>'tag_path' AS tag_path, (j->>'occurrence')::BIGINT AS occurrence,
    coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_dataset_tags WHERE value IS NOT NULL)
)
WHERE dataset_id IS NOT NULL AND tag IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
  AND coalesce(occurrence <= 1, true) AND (is_gone OR (trim(tag) <> '' AND length(tag) <= 100))
QUALIFY row_number() OVER (PARTITION BY dataset_id, tag, run_date ORDER BY run_ts DESC) = 1;

CREATE TABLE dumps_said AS
SELECT DISTINCT j->>'table_name' AS table_name, (j->>'run_date')::DATE AS run_date
FROM (SELECT parsed(value) AS j FROM bronze_kaggle_dumps WHERE value IS NOT NULL)
WHERE j->>'table_name' IS NOT NULL AND j->>'run_ts' IS NOT NULL AND (j->>'run_date')::DATE = instant(j->>'run_ts')::DATE
  AND coalesce((j->>'rows')::BIGINT >= 0, true) AND coalesce((j->>'added')::BIGINT >= 0, true)
  AND coalesce((j->>'changed')::BIGINT >= 0, true) AND coalesce((j->>'gone')::BIGINT >= 0, true);

-- Silver's derived tables.
CREATE TABLE kaggle_users AS
SELECT u.user_id, user_name, display_name, country, country_code, coalesce(trim(country), '') = '' AS is_country_missing,
  coalesce(signup_ts, first_ts) AS signup_ts, signup_ts IS NULL AS is_signup_imputed, performance_tier, location_sharing_opt_out, run_date, run_ts
FROM (SELECT * FROM users_said QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY run_date DESC) = 1) u
JOIN (SELECT user_id, min(run_ts) AS first_ts FROM users_said WHERE NOT is_gone GROUP BY ALL) f USING (user_id)
WHERE NOT is_gone;

CREATE TABLE kaggle_datasets_history AS
SELECT d.dataset_id, d.run_date AS from_date,
  coalesce((SELECT min(n.run_date) FROM datasets_said n WHERE n.dataset_id = d.dataset_id AND n.run_date > d.run_date), DATE '9999-12-31') AS until_date,
  NOT EXISTS (SELECT 1 FROM datasets_said n WHERE n.dataset_id = d.dataset_id AND n.run_date > d.run_date) AS is_current,
  title, subtitle, slug, owner_user_id, creator_user_id, owner_organization_id, dataset_type,
  said_private IS TRUE AS is_private, said_private IS NULL AS is_private_imputed, license_name, created_ts, updated_ts, last_activity_ts,
  coalesce(said_views, 0) AS total_views, said_views IS NULL AS is_views_imputed,
  coalesce(said_downloads, 0) AS total_downloads, said_downloads IS NULL AS is_downloads_imputed, total_votes, total_kernels, run_ts
FROM datasets_said d WHERE NOT is_gone;

-- A stay begins with a version that follows none, or one that has gone, and ends with the first that has gone after it.
CREATE TABLE kaggle_datasets_presence AS
SELECT dataset_id, run_date AS from_date,
  coalesce((SELECT min(g.run_date) FROM datasets_said g WHERE g.dataset_id = d.dataset_id AND g.run_date > d.run_date AND g.is_gone),
    DATE '9999-12-31') AS until_date
FROM datasets_said d WHERE NOT is_gone
  AND coalesce((SELECT arg_max(b.is_gone, b.run_date) FROM datasets_said b WHERE b.dataset_id = d.dataset_id AND b.run_date < d.run_date), true);

CREATE TABLE kaggle_datasets AS
SELECT h.dataset_id, title, subtitle, slug, h.owner_user_id, coalesce(u.user_name, 'Unknown') AS owner_user_name,
  coalesce(u.country_code, 'XX') AS owner_country_code, u.user_id IS NOT NULL AS is_owner_known, creator_user_id, owner_organization_id,
  dataset_type, is_private, is_private_imputed, license_name, created_ts, updated_ts, last_activity_ts,
  created_ts IS NULL OR updated_ts IS NULL AS has_missing_dates, total_views, is_views_imputed, total_downloads, is_downloads_imputed,
  per_download(total_views, total_downloads) AS views_per_download, total_votes, total_kernels,
  (from_date - created_ts::DATE)::INT AS dataset_age_days, (from_date - updated_ts::DATE)::INT AS last_update_days, from_date AS run_date, h.run_ts
FROM kaggle_datasets_history h LEFT JOIN kaggle_users u ON u.user_id = h.owner_user_id WHERE is_current;

-- Which dataset had which tag on which day on which something changed; then the days in a row.
CREATE TABLE tag_state AS
WITH days AS (
  SELECT dataset_id, run_date FROM datasets_said WHERE dataset_id IN (SELECT dataset_id FROM tags_said)
  UNION SELECT dataset_id, run_date FROM tags_said
),
raw AS (
  SELECT d.dataset_id, d.run_date AS day, t.tag, t.clean, arg_max(t.is_gone, t.run_date) AS is_gone, max(t.run_date) AS said
  FROM days d JOIN tags_said t ON t.dataset_id = d.dataset_id AND t.run_date <= d.run_date GROUP BY ALL
),
alive AS (SELECT d.dataset_id, d.run_date AS day FROM days d ASOF JOIN datasets_said s ON s.dataset_id = d.dataset_id AND s.run_date <= d.run_date WHERE NOT s.is_gone)
SELECT dataset_id, day, clean, bool_or(is_there) AS is_there FROM (
  SELECT r.dataset_id, r.day, r.clean, NOT r.is_gone AND a.day IS NOT NULL AS is_there
  FROM raw r LEFT JOIN alive a ON a.dataset_id = r.dataset_id AND a.day = r.day WHERE r.clean <> ''
) GROUP BY ALL;

CREATE TABLE stays AS
WITH turns AS (
  SELECT * FROM tag_state QUALIFY is_there IS DISTINCT FROM coalesce(lag(is_there) OVER (PARTITION BY dataset_id, clean ORDER BY day), false)
)
SELECT dataset_id, clean AS tag, day AS from_date, until_date FROM (
  SELECT *, coalesce(lead(day) OVER (PARTITION BY dataset_id, clean ORDER BY day), DATE '9999-12-31') AS until_date FROM turns
) WHERE is_there;

-- The tag's id, name and path are those of the last version that said it during the stay; of two texts of one tag the one that lasted longer.
CREATE TABLE kaggle_dataset_tags_history AS
WITH said AS (
  SELECT *, coalesce((SELECT min(n.run_date) FROM tags_said n WHERE n.dataset_id = t.dataset_id AND n.tag = t.tag AND n.run_date > t.run_date),
    DATE '9999-12-31') AS ends FROM tags_said t WHERE NOT is_gone
),
met AS (
  SELECT s.dataset_id, s.tag, s.from_date, s.until_date, v.tag_id, v.tag_name, v.tag_path, v.tag AS source_tag,
    least(v.ends, s.until_date) AS last_day, greatest(v.run_date, s.from_date) AS first_day
  FROM stays s JOIN said v ON v.dataset_id = s.dataset_id AND v.clean = s.tag AND v.run_date < s.until_date AND v.ends > s.from_date
)
SELECT dataset_id, tag, from_date, until_date, until_date = DATE '9999-12-31' AS is_current, tag_id, tag_name, tag_path FROM met
QUALIFY row_number() OVER (PARTITION BY dataset_id, tag, from_date ORDER BY last_day DESC, first_day DESC, source_tag DESC, tag_id DESC NULLS LAST) = 1;

CREATE TABLE kaggle_tags AS
SELECT tag, last.tag_id AS tag_id, last.tag_name AS tag_name, last.tag_path AS tag_path, datasets, datasets_total,
  class_of(datasets, datasets_total) AS popularity
FROM (
  SELECT tag, count(*) FILTER (WHERE is_current) AS datasets,
    (SELECT count(*) FROM kaggle_datasets) AS datasets_total,
    first({tag_id: tag_id, tag_name: tag_name, tag_path: tag_path} ORDER BY until_date DESC, from_date DESC, dataset_id DESC) AS last
  FROM kaggle_dataset_tags_history GROUP BY tag
);

CREATE TABLE kaggle_dataset_tags AS
SELECT dataset_id, h.tag, k.tag_id, k.tag_name, k.tag_path, popularity, from_date AS since_date
FROM kaggle_dataset_tags_history h JOIN kaggle_tags k ON k.tag = h.tag WHERE is_current;

-- Gold.
CREATE TABLE dim_user AS
WITH known AS (
  SELECT user_id, run_date, run_ts, is_gone, CASE WHEN NOT is_gone THEN {n: user_name, c: coalesce(country_code, 'XX')} END AS state FROM users_said
),
turns AS (
  SELECT * FROM known
  QUALIFY state IS DISTINCT FROM lag(state) OVER (PARTITION BY user_id ORDER BY run_date)
    OR row_number() OVER (PARTITION BY user_id ORDER BY run_date) = 1
),
spans AS (SELECT *, lead(run_ts) OVER (PARTITION BY user_id ORDER BY run_date) AS ends FROM turns),
signups AS (
  SELECT user_id, coalesce(first(signup_ts ORDER BY run_date DESC), min(run_ts)) AS signup_ts FROM users_said WHERE NOT is_gone GROUP BY ALL
)
SELECT (('0x' || md5(s.user_id || '|' || epoch_ms(run_ts))[1:16])::UBIGINT::HUGEINT % 9223372036854775808)::BIGINT AS user_sk,
  s.user_id, state.n AS user_name, state.c AS country_code, signup_ts, run_ts AS effective_start_ts,
  coalesce(ends, TIMESTAMPTZ '9999-12-31 00:00:00+00') AS effective_end_ts, ends IS NULL AS is_current
FROM spans s JOIN signups USING (user_id) WHERE NOT is_gone
UNION ALL
SELECT 0, -1, 'Unknown', 'XX', NULL, TIMESTAMPTZ '1970-01-01 00:00:00+00', TIMESTAMPTZ '9999-12-31 00:00:00+00', true;

CREATE TABLE dim_dataset AS
SELECT dataset_id, title, subtitle, slug, owner_user_id, owner_user_name, dataset_type, license_name, is_private, created_ts,
  day_key(created_ts) AS created_date_key, updated_ts, run_date FROM kaggle_datasets;
CREATE TABLE dim_tag AS SELECT tag, tag_id, tag_name, tag_path, datasets, popularity FROM kaggle_tags;
CREATE TABLE bridge_dataset_tag AS SELECT dataset_id, tag FROM kaggle_dataset_tags;

CREATE TABLE fact_dataset_owner_daily AS
WITH days AS (SELECT run_date AS day FROM dumps_said WHERE table_name = 'datasets'),
state AS (
  SELECT day, d.* FROM days JOIN datasets_said d ON d.run_date <= day
  QUALIFY row_number() OVER (PARTITION BY day, dataset_id ORDER BY d.run_date DESC) = 1
),
sums AS (
  SELECT owner_user_id, day, count(*) AS datasets_total, count(*) FILTER (WHERE said_private) AS datasets_private,
    count(*) FILTER (WHERE said_private IS NOT TRUE) AS datasets_public,
    sum(coalesce(said_views, 0))::BIGINT AS views, sum(coalesce(said_downloads, 0))::BIGINT AS downloads
  FROM state WHERE NOT is_gone GROUP BY ALL
)
SELECT owner_user_id, coalesce(user_sk, 0) AS user_sk, day_key(day) AS date_key, datasets_total, datasets_private, datasets_public,
  views, downloads, per_download(views, downloads) AS views_per_download
FROM sums LEFT JOIN dim_user u
  ON u.user_id = owner_user_id AND u.effective_start_ts::DATE <= day AND u.effective_end_ts::DATE > day;

CREATE TABLE fact_tag_usage_daily AS
WITH days AS (SELECT run_date AS day FROM dumps_said WHERE table_name = 'dataset_tags'),
there AS (
  SELECT day, d.dataset_id, is_gone FROM days JOIN datasets_said d ON d.run_date <= day
  QUALIFY row_number() OVER (PARTITION BY day, dataset_id ORDER BY d.run_date DESC) = 1
),
tagged AS (
  SELECT day, t.dataset_id, t.clean, t.is_gone FROM days JOIN tags_said t ON t.run_date <= day
  QUALIFY row_number() OVER (PARTITION BY day, t.dataset_id, t.tag ORDER BY t.run_date DESC) = 1
)
SELECT tag, date_key, datasets, datasets_total, class_of(datasets, datasets_total) AS popularity FROM (
  SELECT clean AS tag, day_key(day) AS date_key, count(DISTINCT dataset_id) AS datasets, total AS datasets_total
  FROM tagged JOIN (SELECT day, dataset_id FROM there WHERE NOT is_gone) USING (day, dataset_id)
  JOIN (SELECT day, count(*) FILTER (WHERE NOT is_gone) AS total FROM there GROUP BY day) USING (day)
  WHERE NOT tagged.is_gone AND clean <> '' GROUP BY ALL
);

CREATE TABLE report_top_tags AS
SELECT (row_number() OVER (ORDER BY datasets DESC, tag))::INT AS place, tag, tag_name, datasets, popularity FROM dim_tag WHERE datasets > 0
QUALIFY place <= 20;

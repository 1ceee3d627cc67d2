-- What should the derived tables of competitions be? Appended to ../oracle.sql, whose macros it uses; shares no code with the transforms.

CREATE MACRO counted(n) AS coalesce(n BETWEEN 0 AND 1000000000000, true);
-- The words of a host segment, without what lies between them.
CREATE MACRO kind_of(s) AS CASE regexp_replace(translate(s, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'), '[^a-z0-9]', '', 'g')
  WHEN 'featured' THEN 'Featured' WHEN 'research' THEN 'Research' WHEN 'gettingstarted' THEN 'Getting Started'
  WHEN 'playground' THEN 'Playground' ELSE 'Other' END;
CREATE MACRO currency_of(t) AS CASE WHEN regexp_full_match(trim(t), '[A-Za-z]{3}') THEN upper(trim(t)) END;

CREATE TABLE competitions_said AS
SELECT * FROM (
  SELECT (j->>'competition_id')::BIGINT AS competition_id, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    j->>'slug' AS slug, j->>'title' AS title, j->>'subtitle' AS subtitle, j->>'host_segment' AS host_segment, j->>'host_name' AS host_name,
    (j->>'organization_id')::BIGINT AS organization_id, instant(j->>'enabled_ts') AS enabled_ts, instant(j->>'deadline_ts') AS deadline_ts,
    j->>'reward_type' AS reward_type, (j->>'reward_quantity')::DECIMAL(18, 4) AS reward_quantity, (j->>'num_prizes')::BIGINT AS num_prizes,
    j->>'evaluation_metric' AS evaluation_metric, (j->>'only_kernel_submissions')::BOOLEAN AS only_kernel_submissions,
    (j->>'can_qualify_tiers')::BOOLEAN AS can_qualify_tiers, (j->>'total_teams')::BIGINT AS total_teams,
    (j->>'total_competitors')::BIGINT AS total_competitors, (j->>'total_submissions')::BIGINT AS total_submissions,
    coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_competitions WHERE value IS NOT NULL)
)
WHERE competition_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
  AND counted(total_teams) AND counted(total_competitors) AND counted(total_submissions) AND counted(num_prizes)
  AND coalesce(reward_quantity >= 0, true) AND (is_gone OR coalesce(trim(title), '') <> '')
QUALIFY row_number() OVER (PARTITION BY competition_id, run_date ORDER BY run_ts DESC) = 1;

CREATE TABLE organizations_said AS
SELECT * FROM (
  SELECT (j->>'organization_id')::BIGINT AS organization_id, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    j->>'organization_name' AS organization_name, j->>'slug' AS slug, instant(j->>'created_ts') AS created_ts,
    j->>'description' AS description, coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_organizations WHERE value IS NOT NULL)
)
WHERE organization_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
  AND (is_gone OR coalesce(trim(organization_name), '') <> '')
QUALIFY row_number() OVER (PARTITION BY organization_id, run_date ORDER BY run_ts DESC) = 1;

CREATE TABLE competition_tags_said AS
SELECT * FROM (
  SELECT (j->>'competition_id')::BIGINT AS competition_id, (j->>'tag_id')::BIGINT AS tag_id, (j->>'run_date')::DATE AS run_date,
    instant(j->>'run_ts') AS run_ts, j->>'tag' AS tag, j->>'tag_name' AS tag_name, j->>'tag_path' AS tag_path,
    coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_competition_tags WHERE value IS NOT NULL)
)
WHERE competition_id IS NOT NULL AND tag_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
QUALIFY row_number() OVER (PARTITION BY competition_id, tag_id, run_date ORDER BY run_ts DESC) = 1;

-- Silver: what no later day says otherwise of.
CREATE TABLE kaggle_competitions AS
SELECT competition_id, slug, title, subtitle, host_segment, kind_of(host_segment) AS competition_type, host_name, organization_id,
  enabled_ts, year(enabled_ts)::INT AS enabled_year, deadline_ts, date_diff('day', enabled_ts::DATE, deadline_ts::DATE)::INT AS duration_days,
  reward_type, reward_quantity, currency_of(reward_type) AS reward_currency, num_prizes, evaluation_metric, only_kernel_submissions,
  can_qualify_tiers, total_teams, total_competitors, total_submissions,
  enabled_ts IS NULL OR deadline_ts IS NULL AS has_missing_dates,
  total_teams IS NULL OR total_competitors IS NULL OR total_submissions IS NULL AS has_missing_counts,
  (deadline_ts < enabled_ts) IS TRUE AS is_deadline_before_enabled,
  CASE WHEN currency_of(reward_type) IS NULL THEN reward_quantity > 0 IS TRUE ELSE reward_quantity > 0 IS NOT TRUE END AS is_reward_at_odds,
  (total_teams > total_competitors) IS TRUE AS has_more_teams_than_competitors, run_date, run_ts
FROM competitions_said c WHERE NOT is_gone
  AND NOT EXISTS (SELECT 1 FROM competitions_said n WHERE n.competition_id = c.competition_id AND n.run_date > c.run_date);

CREATE TABLE kaggle_organizations AS
SELECT organization_id, organization_name, slug, created_ts, description, run_date, run_ts FROM organizations_said o WHERE NOT is_gone
  AND NOT EXISTS (SELECT 1 FROM organizations_said n WHERE n.organization_id = o.organization_id AND n.run_date > o.run_date);

CREATE TABLE kaggle_competition_tags AS
SELECT competition_id, tag_id, tag, tag_name, tag_path, EXISTS (SELECT 1 FROM kaggle_competitions k WHERE k.competition_id = t.competition_id)
  AS is_competition_known, run_date, run_ts
FROM competition_tags_said t WHERE NOT is_gone AND NOT EXISTS (
  SELECT 1 FROM competition_tags_said n WHERE n.competition_id = t.competition_id AND n.tag_id = t.tag_id AND n.run_date > t.run_date);

-- Gold.
CREATE TABLE dim_competition AS
SELECT c.competition_id, c.slug, title, subtitle, host_segment, competition_type, host_name, c.organization_id, o.organization_name,
  CASE WHEN c.organization_id IS NOT NULL THEN o.organization_id IS NOT NULL END AS is_organization_known,
  enabled_ts, day_key(enabled_ts) AS enabled_date_key, enabled_year, deadline_ts, day_key(deadline_ts) AS deadline_date_key, duration_days,
  reward_type, reward_quantity, reward_currency, CASE reward_currency WHEN 'USD' THEN reward_quantity END AS reward_usd, num_prizes,
  evaluation_metric, only_kernel_submissions, can_qualify_tiers, total_teams, total_competitors, total_submissions,
  (SELECT count(*) FROM kaggle_competition_tags t WHERE t.competition_id = c.competition_id) AS tag_count,
  (SELECT nullif(string_agg(n, ', ' ORDER BY n), '')
    FROM (SELECT coalesce(tag, tag_name) AS n FROM kaggle_competition_tags t WHERE t.competition_id = c.competition_id)) AS tags,
  is_deadline_before_enabled, is_reward_at_odds, has_more_teams_than_competitors, c.run_date
FROM kaggle_competitions c LEFT JOIN kaggle_organizations o USING (organization_id);

CREATE TABLE fact_competitions_yearly AS
WITH begun AS (SELECT *, date_part('year', enabled_ts)::INT AS y FROM kaggle_competitions WHERE enabled_ts IS NOT NULL),
money AS (
  SELECT y, coalesce(sum(reward_quantity) FILTER (WHERE reward_currency = 'USD'), 0) AS usd,
    coalesce(sum(reward_quantity) FILTER (WHERE reward_currency = 'EUR'), 0) AS eur,
    coalesce(sum(reward_quantity) FILTER (WHERE reward_currency = 'GBP'), 0) AS gbp,
    coalesce(sum(reward_quantity) FILTER (WHERE reward_currency = 'AUD'), 0) AS aud,
    coalesce(sum(reward_quantity) FILTER (WHERE reward_currency = 'CAD'), 0) AS cad,
    coalesce(sum(reward_quantity) FILTER (WHERE reward_currency IS NOT NULL), 0) AS every
  FROM begun GROUP BY y
),
-- Each year against the one before it; none where that had none.
years AS (SELECT y, count(*) AS n FROM begun GROUP BY y),
grown AS (SELECT a.y, 100.0::DOUBLE * (a.n - b.n) / b.n AS growth_percent FROM years a LEFT JOIN years b ON b.y = a.y - 1)
SELECT y AS year, count(*) AS total_competitions, count(*) FILTER (WHERE competition_type = 'Featured') AS featured,
  count(*) FILTER (WHERE competition_type = 'Research') AS research, count(*) FILTER (WHERE competition_type = 'Getting Started') AS getting_started,
  count(*) FILTER (WHERE competition_type = 'Playground') AS playground, count(*) FILTER (WHERE competition_type = 'Other') AS other,
  sum(total_teams)::BIGINT AS total_teams, sum(total_competitors)::BIGINT AS total_competitors, sum(total_submissions)::BIGINT AS total_submissions,
  usd::DECIMAL(28, 4) AS rewards_usd, eur::DECIMAL(28, 4) AS rewards_eur, gbp::DECIMAL(28, 4) AS rewards_gbp, aud::DECIMAL(28, 4) AS rewards_aud,
  cad::DECIMAL(28, 4) AS rewards_cad, (every - usd - eur - gbp - aud - cad)::DECIMAL(28, 4) AS rewards_other_currencies,
  avg(total_teams) AS avg_teams, avg(total_competitors) AS avg_competitors, avg(total_submissions) AS avg_submissions,
  len(list_distinct(list(competition_type)))::BIGINT AS type_diversity, growth_percent
FROM begun JOIN money USING (y) JOIN grown USING (y) GROUP BY ALL;

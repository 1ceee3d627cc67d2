-- What should the tables of the polled dataset list be? Appended to ../oracle.sql and competitions/oracle.sql, whose macros and tables it
-- uses; shares no code with the transforms.

-- What a dataset's last message but absences says, and how many absences came after it.
CREATE TABLE list_said AS
SELECT * FROM (
  SELECT j->>'ref' AS ref, instant(j->>'poll_ts') AS poll_ts, instant(j->>'seen_ts') AS seen_ts,
    coalesce((j->>'is_absent')::BOOLEAN, false) AS is_absent, (j->>'absent_polls')::BIGINT AS absent_polls,
    {t: j->>'title', s: j->>'subtitle', u: j->>'url', i: (j->>'listed_id')::BIGINT, l: j->>'license_name', m: instant(j->>'updated_ts')} AS state
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_dataset_list WHERE value IS NOT NULL)
)
WHERE ref IS NOT NULL AND poll_ts IS NOT NULL AND seen_ts IS NOT NULL AND coalesce(absent_polls >= 1, true) AND seen_ts >= poll_ts
  AND len(string_split(ref, '/')) = 2 AND NOT contains(ref, ' ') AND NOT starts_with(ref, '/') AND NOT ends_with(ref, '/')
  AND (is_absent OR trim(coalesce(state.t, '')) <> '')
QUALIFY row_number() OVER (PARTITION BY ref, poll_ts ORDER BY seen_ts DESC) = 1;

CREATE TABLE kaggle_dataset_refs AS
SELECT dataset_id, d.owner_organization_id, translate(owner || '/' || d.slug, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz') AS match_ref
FROM (SELECT *, CASE WHEN owner_organization_id IS NOT NULL
    THEN (SELECT o.slug FROM kaggle_organizations o WHERE o.organization_id = k.owner_organization_id)
    WHEN is_owner_known THEN owner_user_name END AS owner
  FROM kaggle_datasets k) AS d
WHERE owner IS NOT NULL AND d.slug IS NOT NULL;

CREATE TABLE kaggle_dataset_list AS
WITH seen AS (
  SELECT ref, min(poll_ts) AS first_seen_ts, max(poll_ts) AS last_ts, arg_max(state, poll_ts) AS state FROM list_said WHERE NOT is_absent GROUP BY ref
),
-- The newest poll before which another state was seen; the first one where the state was always the same.
changes AS (
  SELECT ref, max(poll_ts) AS last_changed_ts FROM list_said v WHERE NOT is_absent AND state IS DISTINCT FROM (
    SELECT arg_max(b.state, b.poll_ts) FROM list_said b WHERE b.ref = v.ref AND NOT b.is_absent AND b.poll_ts < v.poll_ts
  ) GROUP BY ref
),
missed AS (
  SELECT v.ref, count(*) AS n, min(v.poll_ts) AS since FROM list_said v JOIN seen ON seen.ref = v.ref AND v.poll_ts > seen.last_ts
  WHERE v.is_absent GROUP BY v.ref
)
SELECT s.ref, translate(s.ref, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz') AS match_ref,
  string_split(s.ref, '/')[1] AS owner_slug, string_split(s.ref, '/')[2] AS slug,
  (SELECT max(r.dataset_id) FROM kaggle_dataset_refs r WHERE r.match_ref = translate(s.ref, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')) AS dataset_id,
  CASE coalesce(m.n, 0) WHEN 0 THEN 'listed' WHEN 1 THEN 'absent' ELSE 'unlisted' END AS status,
  state.t AS title, state.s AS subtitle, state.u AS url, state.i AS listed_id, state.l AS license_name, state.m AS updated_ts,
  first_seen_ts, last_changed_ts, m.since AS absent_since_ts
FROM seen s JOIN changes USING (ref) LEFT JOIN missed m ON m.ref = s.ref;

CREATE TABLE dim_listed_dataset AS
SELECT ref, dataset_id, status, title, subtitle, owner_slug, slug, url, license_name, updated_ts, first_seen_ts, last_changed_ts, absent_since_ts
FROM kaggle_dataset_list;

-- What should the derived tables of kernels be? Appended to ../oracle.sql, whose macros it uses; shares no code with the transforms.

CREATE TABLE kernels_said AS
SELECT * FROM (
  SELECT (j->>'kernel_id')::BIGINT AS kernel_id, (j->>'run_date')::DATE AS run_date, instant(j->>'run_ts') AS run_ts,
    (j->>'author_user_id')::BIGINT AS author_user_id, j->>'title' AS title, j->>'slug' AS slug,
    (j->>'current_version_id')::BIGINT AS current_version_id, j->>'language' AS language, j->>'language_name' AS language_name,
    (j->>'is_notebook')::BOOLEAN AS is_notebook, (j->>'forked_from_version_id')::BIGINT AS forked_from_version_id,
    instant(j->>'created_ts') AS created_ts, instant(j->>'made_public_ts') AS made_public_ts, (j->>'medal')::BIGINT AS medal,
    (j->>'total_views')::BIGINT AS total_views, (j->>'total_comments')::BIGINT AS total_comments, (j->>'total_votes')::BIGINT AS total_votes,
    coalesce((j->>'is_gone')::BOOLEAN, false) AS is_gone
  FROM (SELECT parsed(value) AS j FROM bronze_kaggle_kernels WHERE value IS NOT NULL)
)
WHERE kernel_id IS NOT NULL AND run_date IS NOT NULL AND run_ts IS NOT NULL AND run_date = run_ts::DATE
  AND coalesce(total_views >= 0, true) AND coalesce(total_comments >= 0, true) AND coalesce(total_votes >= 0, true)
  -- A day without a time counts to its end.
  AND (is_gone OR (author_user_id IS NOT NULL AND coalesce(
    CASE WHEN made_public_ts = date_trunc('day', made_public_ts) THEN made_public_ts + INTERVAL 1 DAY > created_ts ELSE made_public_ts >= created_ts END, true)))
QUALIFY row_number() OVER (PARTITION BY kernel_id, run_date ORDER BY run_ts DESC) = 1;

CREATE TABLE kaggle_kernels AS
SELECT kernel_id, author_user_id, title, slug, current_version_id, language, language_name, is_notebook,
  language IS NULL AS is_language_missing, forked_from_version_id, created_ts, made_public_ts,
  date_diff('day', created_ts::DATE, run_date)::INT AS kernel_age_days, medal, total_views, total_comments, total_votes, run_date, run_ts
FROM kernels_said k WHERE NOT is_gone
  AND NOT EXISTS (SELECT 1 FROM kernels_said n WHERE n.kernel_id = k.kernel_id AND n.run_date > k.run_date);

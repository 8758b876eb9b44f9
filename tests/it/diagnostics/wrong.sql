-- The file's own lines are shown.
SELECT country
FROM sales
WHERE year_id = $1

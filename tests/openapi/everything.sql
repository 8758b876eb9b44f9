-- The tables of everything.toml, in addition to the demo's sales.
CREATE SCHEMA everything;
SET search_path = everything;

CREATE TYPE mood AS ENUM ('calm', 'glad', 'it''s so-so');
CREATE DOMAIN score AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE pair AS (a integer, b text);

CREATE TABLE measured (id bigint PRIMARY KEY, at timestamptz NOT NULL, mood mood, score score, note text);
INSERT INTO measured
SELECT n, timestamptz '2024-02-29 12:00+00' + n * interval '1 hour',
       (enum_range(NULL::mood))[1 + n % 3], n % 101, nullif(repeat('ä"\,' || n, n % 4), '')
FROM generate_series(1, 500) n;

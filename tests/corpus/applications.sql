-- Statements as object-relational mappers, drivers and reports send them; one after each line that is only a semicolon.
-- What psql, pg_dump and pgbench send is recorded by the tests themselves.
SELECT "customers".* FROM "customers" WHERE "customers"."email" = $1 LIMIT $2
;
SELECT 1 AS one FROM "customers" WHERE "customers"."email" = $1 AND "customers"."id" != $2 LIMIT $3
;
INSERT INTO "customers" ("email", "created_at", "updated_at") VALUES ($1, $2, $3) RETURNING "id"
;
UPDATE "customers" SET "email" = $1, "updated_at" = $2 WHERE "customers"."id" = $3
;
DELETE FROM "orders" WHERE "orders"."customer_id" IN (SELECT "customers"."id" FROM "customers" WHERE "customers"."active" = FALSE)
;
SELECT COUNT(*) FROM (SELECT 1 AS one FROM "customers" LIMIT 10 OFFSET 20) subquery_for_count
;
SELECT "customers"."id" AS t0_r0, "customers"."email" AS t0_r1, "orders"."id" AS t1_r0 FROM "customers" LEFT OUTER JOIN "orders" ON "orders"."customer_id" = "customers"."id" WHERE "orders"."total" > 10.5 ORDER BY "customers"."id" ASC
;
SELECT "shop_customer"."id", "shop_customer"."email" FROM "shop_customer" INNER JOIN "shop_order" ON ("shop_customer"."id" = "shop_order"."customer_id") WHERE ("shop_order"."paid" AND "shop_customer"."email"::text LIKE '%@example.com' AND NOT ("shop_customer"."name" IS NULL)) ORDER BY "shop_customer"."id" DESC LIMIT 21
;
SELECT COUNT(*) AS "__count" FROM "shop_customer" WHERE UPPER("shop_customer"."name"::text) = UPPER('Ann')
;
INSERT INTO "shop_customer" ("email", "name") VALUES ('a@b.c', 'Ann'), ('d@e.f', NULL) ON CONFLICT ("email") DO UPDATE SET "name" = EXCLUDED."name" RETURNING "shop_customer"."id"
;
SELECT "a"."id", (SELECT SUM(U0."total") AS "s" FROM "shop_order" U0 WHERE U0."customer_id" = ("a"."id") GROUP BY U0."customer_id") AS "spent" FROM "shop_customer" "a" WHERE EXISTS(SELECT 1 AS "a" FROM "shop_order" U0 WHERE U0."customer_id" = ("a"."id") LIMIT 1)
;
SELECT customers.id AS customers_id, customers.email AS customers_email FROM customers WHERE customers.id = $1::INTEGER
;
select c1_0.id,c1_0.email,o1_0.customer_id,o1_0.id,o1_0.total from customers c1_0 left join orders o1_0 on c1_0.id=o1_0.customer_id where c1_0.email=$1 and o1_0.total>-1 fetch first $2 rows only
;
select nextval('customers_seq')
;
select c.* from customers c where c.id in ($1,$2,$3) and c.balance<>-1 for update of c skip locked
;
SELECT "public"."Customer"."id", "public"."Customer"."email" FROM "public"."Customer" WHERE ("public"."Customer"."email" = $1 AND 1=1) LIMIT $2 OFFSET $3
;
INSERT INTO "public"."Customer" ("email","prefs") VALUES ($1,$2) RETURNING "public"."Customer"."id"
;
select * from "customers" where "email" = ANY($1::text[]) order by "id" asc nulls last limit $2
;
WITH recent AS MATERIALIZED (SELECT customer_id, max(created_at) AS at FROM orders GROUP BY 1) SELECT c.id, r.at AT TIME ZONE 'UTC' FROM customers AS c JOIN recent r ON r.customer_id = c.id WHERE r.at >= now() - interval '30 days'
;
WITH RECURSIVE tree(id, parent, depth) AS (SELECT id, parent, 0 FROM nodes WHERE parent IS NULL UNION ALL SELECT n.id, n.parent, t.depth + 1 FROM nodes n JOIN tree t ON n.parent = t.id) SELECT * FROM tree
;
WITH moved AS (DELETE FROM carts WHERE updated_at < $1 RETURNING *) INSERT INTO old_carts SELECT * FROM moved
;
SELECT row_number() OVER (PARTITION BY customer_id ORDER BY created_at DESC) AS rn, sum(total) FILTER (WHERE paid) OVER w FROM orders WINDOW w AS (PARTITION BY customer_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
;
SELECT date_trunc('month', created_at)::date AS month, count(DISTINCT customer_id), percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders GROUP BY 1 HAVING count(*) > 1 ORDER BY 1
;
SELECT DISTINCT ON (customer_id) customer_id, total FROM orders ORDER BY customer_id, created_at DESC
;
SELECT id, CASE WHEN total > 100 THEN 'big' WHEN total IS NULL THEN '?' ELSE 'small' END AS size, COALESCE(note, '') || '!' FROM orders
;
SELECT prefs->'ui'->>'theme', prefs #>> '{a,b}', prefs @> '{"a": 1}'::jsonb, prefs ? 'x', tags && ARRAY['a','b'] FROM customers
;
SELECT o.id FROM orders o, LATERAL (SELECT * FROM lines l WHERE l.order_id = o.id ORDER BY l.price DESC LIMIT 1) top WHERE o.id BETWEEN 1 AND 100
;
SELECT a, b, sum(c) FROM t GROUP BY GROUPING SETS ((a, b), (a), ())
;
SELECT generate_series(1, 10) AS n UNION SELECT 0 EXCEPT SELECT 5 ORDER BY n
;
SELECT t.x, u.y FROM (VALUES (1, 'a'), (2, 'b')) AS t (x, z) CROSS JOIN LATERAL unnest(ARRAY[1,2]) WITH ORDINALITY AS u(y, n)
;
SELECT extract(epoch FROM created_at), position('@' in email), substring(email from 1 for 3), trim(both ' ' from name), overlay(name placing 'x' from 2 for 1), cast(id AS text) FROM customers
;
SELECT * FROM customers WHERE (id, email) > ($1, $2) ORDER BY id, email LIMIT 50
;
SELECT * FROM customers c NATURAL JOIN orders o WHERE c.id IS NOT DISTINCT FROM $1 AND email NOT ILIKE 'a%' ESCAPE '\'
;
SELECT * FROM customers TABLESAMPLE SYSTEM (1) WHERE name ~* '^a' AND note SIMILAR TO '%x%'
;
UPDATE orders AS o SET total = o.total + l.sum, (a, b) = (1, 2) FROM (SELECT order_id, sum(price) FROM lines GROUP BY order_id) AS l WHERE l.order_id = o.id RETURNING o.*
;
UPDATE t SET a = DEFAULT, b = (SELECT max(b) FROM t) WHERE id = 3
;
DELETE FROM ONLY orders USING customers c WHERE c.id = orders.customer_id AND c.email = $1
;
INSERT INTO t DEFAULT VALUES
;
INSERT INTO t (a) OVERRIDING SYSTEM VALUE SELECT b FROM u ON CONFLICT DO NOTHING
;
MERGE INTO stock s USING sold d ON s.id = d.id WHEN MATCHED AND s.n = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n - d.n WHEN NOT MATCHED THEN INSERT (id, n) VALUES (d.id, 0)
;
BEGIN
;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
;
START TRANSACTION
;
COMMIT
;
ROLLBACK TO SAVEPOINT active_record_1
;
SAVEPOINT active_record_1
;
RELEASE SAVEPOINT active_record_1
;
SET client_min_messages TO 'warning'
;
SET SESSION timezone TO 'UTC'
;
SET LOCAL statement_timeout = 5000
;
SET standard_conforming_strings = on
;
SHOW TIME ZONE
;
SHOW search_path
;
DEALLOCATE ALL
;
DISCARD ALL
;
RESET ALL
;
DECLARE c1 NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM customers
;
FETCH FORWARD 100 FROM c1
;
CLOSE c1
;
COPY customers (id, email) FROM STDIN WITH (FORMAT csv, HEADER true, NULL '')
;
COPY (SELECT * FROM customers) TO STDOUT (FORMAT binary)
;
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM customers
;
CREATE TABLE IF NOT EXISTS "customers" ("id" bigserial primary key, "email" character varying(320) NOT NULL, "card" text DEFAULT NULL, "created_at" timestamp(6) without time zone NOT NULL, CONSTRAINT "u" UNIQUE ("email"))
;
CREATE UNIQUE INDEX CONCURRENTLY "index_customers_on_email" ON "customers" USING btree ("email")
;
ALTER TABLE "customers" ADD COLUMN "phone" varchar(20)
;
ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
;
CREATE TEMPORARY TABLE pg_temp_x ON COMMIT DROP AS SELECT * FROM orders
;
CREATE OR REPLACE VIEW v AS SELECT id, email FROM customers
;
DROP TABLE IF EXISTS a, b CASCADE
;
TRUNCATE TABLE orders RESTART IDENTITY CASCADE
;
LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE
;
SELECT pg_advisory_xact_lock(1, 2), pg_try_advisory_lock(4242)
;
SELECT set_config('app.user', $1, true), current_setting('server_version_num')::int
;
SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relkind IN ('r','v') AND pg_catalog.pg_table_is_visible(c.oid)
;
SELECT oid, typarray FROM pg_type WHERE typname = $1 OR oid = $2::regtype::oid
;
SELECT /* app:shop,controller:orders */ id FROM orders /*traceparent='00-abc-01'*/
;
SELECT ''::text, 'it''s', E'a\nb', $$x$$, $tag$it's$tag$, B'01', X'1F', N'n', U&'d\0061t', 1e3, .5, 1., 0x1F, 1_000, -1, +1, - -1
;
SELECT 'a'
  'b', 1 <> 2, 1 != 2, 2 ^ 3, |/ 25, @ -5, 5 % 2, ~1, 1 << 2, 7 & 3, 7 | 8, 5 # 1
;
SELECT date '2024-01-01', timestamp with time zone '2024-01-01 00:00+00', time(3) '10:00', interval '1' day, interval '1 day' + interval '2 hours'
;
SELECT * FROM t OFFSET 5 LIMIT 10
;
SELECT * FROM t OFFSET 10 ROWS FETCH NEXT 5 ROWS ONLY
;
SELECT ALL a, ROW(1, 2), (t).*, ARRAY(SELECT 1), x[1:2], t."Weird Name" FROM t
;
SELECT * FROM a LEFT JOIN (b INNER JOIN c ON b.id = c.id) ON a.id = b.id FULL OUTER JOIN d USING (id) RIGHT JOIN e ON true
;
SELECT a FROM t WHERE a = ALL (SELECT 1) OR a = SOME (ARRAY[1]) OR a NOT IN (1, 2) OR a IS TRUE OR b IS NOT UNKNOWN OR (a, b) OVERLAPS (c, d)
;
SELECT count(*), string_agg(DISTINCT name, ', ' ORDER BY name) FROM t GROUP BY ALL
;
SELECT CURRENT_TIMESTAMP, LOCALTIMESTAMP(2), CURRENT_USER, SESSION_USER, current_date
;
VALUES (1, 'a'), (2, 'b')
;
TABLE customers
